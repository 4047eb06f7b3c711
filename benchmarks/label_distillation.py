"""Distillation in `labels.py`: a fine-tuned ensemble teaches a DeePMD student.

The geometries are those that teacher and students visit in their own molecular dynamics from the
relaxed crystal. Frames that DFT was asked for come in with their labels only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock
from jobflow import Flow
from label_data import TYPE_MAP

from ionloop.codes.deepmd.settings import DeepmdSettings
from ionloop.codes.sevennet.settings import SevennetSettings
from ionloop.engines.local.runner import LocalRunner
from ionloop.flows.distillation.maker import DistilMaker
from ionloop.flows.distillation.settings import Distillation
from ionloop.formats.reading import load_structures
from ionloop.formats.writing import write_frames
from ionloop.jobs.explore.ase import AseExploreMaker
from ionloop.jobs.explore.lammps import LammpsExploreMaker
from ionloop.jobs.label.imports import ingest
from ionloop.jobs.train.deepmd import DeepmdTrainMaker
from ionloop.jobs.train.sevennet import SevennetTrainMaker
from ionloop.schemas.distillation import DistillationDoc
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import Labels, LevelOfTheory
from ionloop.schemas.potential import EnsembleDoc
from ionloop.stores.connect import open_store

LGPS = Path(__file__).parents[1] / "examples/lgps/LGPS.vasp"
PUBLISHED = LevelOfTheory(code="published", settings={"data": "Huang et al. 2021"})
HELD_BACK = 0.1
"""Fraction of the labels that is held back from the teacher: they tell when students may stop."""
LABEL_WEIGHT = 5.0

HOT = {"temperatures": [600.0, 900.0, 1200.0], "ensemble": "npt-tri"}
"""As hot as the published exploration, at constant pressure; most of its frames are hot ones."""
LESSONS = {
    True: Distillation(
        n_own=12,
        n_frames=12,
        max_rounds=1,
        label_weight=LABEL_WEIGHT,
        stage=Stage(**HOT, steps=100, skip=20, dump_every=10),
    ),
    # Most frames are those of the students, whose molecular dynamics costs next to nothing.
    False: Distillation(
        n_own=36,
        n_frames=400,
        max_rounds=2,
        label_weight=LABEL_WEIGHT,
        own_stage=Stage(**HOT, steps=150, skip=30, dump_every=10, timestep=2.0),
        stage=Stage(**HOT, steps=1000, skip=100, dump_every=20, n_structures=5, timestep=2.0),
    ),
}
N_TEACHERS = 2


RUN = "distil"


@dataclass(frozen=True)
class Lessons:
    """What a teacher said of the geometries that it and its students visited.

    Parameters
    ----------
    frames
        The geometries with the teacher's energies, forces and virials.
    core_seconds
        Spent on teachers, exploration, labels and the students before the last one.
    notes
        Numbers to keep beside the result.
    """

    frames: list[Frames]
    core_seconds: float
    notes: dict[str, float]


@dataclass(frozen=True)
class Course:
    """A distillation to be run.

    Parameters
    ----------
    base
        Potential that the teachers begin with.
    student
        Network and training of the students that explore.
    seed
        Seed of everything.
    quick
        Whether everything is short.
    """

    base: str
    student: DeepmdSettings
    seed: int
    quick: bool

    def flow(self, frames: Sequence[Frames], folder: Path) -> Flow:
        """Return the flow: labels, teachers, distillation.

        Parameters
        ----------
        frames
            Labelled frames.
        folder
            Where they are written, one file each: a file is held back as a whole.
        """
        labels = ingest(write_each(frames, folder), "extxyz", TYPE_MAP, PUBLISHED)
        teacher = SevennetTrainMaker(
            n_models=N_TEACHERS,
            settings=SevennetSettings(base=self.base, steps=10 if self.quick else None),
            type_map=TYPE_MAP,
            validation_fraction=HELD_BACK,
        ).make([labels.output], seed=self.seed)
        students = DeepmdTrainMaker(settings=self.student, n_models=2, type_map=TYPE_MAP)
        distil = DistilMaker(
            train=students,
            production=replace(students, n_models=1, min_models=1),
            explore=LammpsExploreMaker(type_map=TYPE_MAP),
            teacher_explore=AseExploreMaker(type_map=TYPE_MAP),
            settings=LESSONS[self.quick],
            validation_fraction=HELD_BACK,
            seed=self.seed,
        ).make(teacher.output, [labels.output], load_structures([LGPS]))
        return Flow([labels, teacher, distil], output=distil.output)


def write_each(frames: Sequence[Frames], folder: Path) -> list[str]:
    """Write every frame to a file of its own, and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    singles = [frame for part in frames for frame in part]
    paths = [folder / f"label-{number}.xyz" for number in range(len(singles))]
    for frame, path in zip(singles, paths, strict=True):
        write_frames(frame, path, "extxyz")
    return [str(path) for path in paths]


def learn(course: Course, frames: Sequence[Frames], folder: Path) -> Lessons:
    """Fine-tune teachers, let them and students explore, and return what the teachers labelled.

    Trainings of several lengths share this; what was done in the folder is not done again.

    Parameters
    ----------
    course
        What to do.
    frames
        Labelled frames.
    folder
        Where the store and the scratch folders go.

    Raises
    ------
    IonloopError
        If a job failed; the next call tries it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        store = str(folder / "distil.db")
        runner = LocalRunner(store_url=store, scratch=folder / "scratch", cores=1)
        if (folder / "submitted").exists():
            ended = runner.resume(RUN, retry_failed=True)
        else:
            (folder / "distil.db").unlink(missing_ok=True)
            runner.submit(course.flow(frames, folder / "labels"), RUN)
            (folder / "submitted").touch()
            ended = runner.resume(RUN)
        if not ended.ok:
            why = "was interrupted" if ended.interrupted else f"failed: {ended.failures[:1]}"
            raise IonloopError(f"the distillation in {folder} {why}")
        return lessons(store)


def lessons(url: str) -> Lessons:
    """Read what a finished distillation left in its store."""
    with closing(open_store(url, read_only=True)) as store:
        (end,) = documents(store, DistillationDoc)
        labels = documents(store, Labels)
        teacher = next(each for each in documents(store, EnsembleDoc) if each.kind == "sevennet")
    parts = [
        replace(f, level=None) for each in labels if each.level.is_teacher for f in each.frames
    ]
    held, last = end.teacher.validation_errors, end.rounds[-1]
    notes = {
        "taught": sum(map(len, parts)),
        "rounds": len(end.rounds),
        "teacher_held_back": held.force_mev_per_angstrom if held else None,
        "student_against_teacher": last.force_error,
        "teacher_seconds": teacher.core_seconds,
    }
    kept = {name: float(value) for name, value in notes.items() if value is not None}
    return Lessons(concatenate(parts), teacher.core_seconds + end.core_seconds, kept)


def documents(store: Any, kind: Any) -> list[Any]:
    """Return the documents of one class that a store holds; those of labels with their frames.

    Parameters
    ----------
    store
        An open store.
    kind
        The class.
    """
    load = kind is Labels
    found = store.query({"output.@class": kind.__name__}, properties=["output"], load=load)
    return [kind.from_stored(each["output"]) for each in found]
