"""Errors of LAMMPS."""

from __future__ import annotations

from ionloop.schemas.errors import IonloopError


class LammpsError(IonloopError, RuntimeError):
    """LAMMPS is absent, cannot run DeePMD models, or refused its input."""
