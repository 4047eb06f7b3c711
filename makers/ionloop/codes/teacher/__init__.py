"""An ensemble of potentials as a labeller: its mean is what a student learns."""

from ionloop.codes.teacher.settings import TeacherSettings

__all__ = ["TeacherSettings"]
