"""Labels from the mean of an ensemble of potentials."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field

from ionloop.codes import potentials
from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.ase import calculate
from ionloop.codes.common.labeller import Labeller
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import TEACHER, LevelOfTheory
from ionloop.schemas.potential import StoredFile

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class TeacherSettings(Labeller):
    """An ensemble of potentials that labels with the mean of its models."""

    kind: str
    """kind of the potentials"""
    models: list[str] = Field(min_length=1)
    """sha256 of the model files"""
    device: str = "cpu"
    """device of torch: cpu, cuda, cuda:1, …"""
    folder: Path | None = None
    """where the model files are, each named by its sha256"""

    @property
    def level(self) -> LevelOfTheory:
        """The level of theory, named by the content of the model files."""
        return LevelOfTheory(
            code=TEACHER, settings={"kind": self.kind, "models": sorted(self.models)}
        )

    def with_models(self, files: Sequence[StoredFile], folder: Path) -> Self:
        """Return the settings of the same teacher with its model files in a folder.

        Parameters
        ----------
        files
            The model files.
        folder
            Where they are written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            file.write(folder, f"{file.sha256}{Path(file.name).suffix}")
        return self.model_copy(update={"folder": folder.resolve()})

    def calculate(self, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
        """Return the mean of what the models predict; without a virial if one of them has none.

        Parameters
        ----------
        frame, folder, cores
            As for `Labeller.calculate`; the models write nothing.

        Raises
        ------
        InputError
            If a model file is not in `folder` of the settings, or is another.
        """
        results = [calculate(each, frame) for each in self._calculators()]
        virials = [each.virial for each in results if each.virial is not None]
        return Calculated(
            energy=float(np.mean([each.energy for each in results])),
            forces=np.mean([each.forces for each in results], axis=0),
            virial=np.mean(virials, axis=0) if len(virials) == len(results) else None,
            seconds=sum(each.seconds for each in results),
            cores=cores,
        )

    def _calculators(self) -> list[Calculator]:
        return [_loaded(self.kind, self._path(sha256), self.device) for sha256 in self.models]

    def _path(self, sha256: str) -> Path:
        found = sorted(self.folder.glob(f"{sha256}*")) if self.folder else []
        if not found:
            place = f"is not in {self.folder}" if self.folder else "has no folder"
            raise InputError(
                f"the model file {sha256[:12]}… of the teacher {place}: write it to one, under its "
                "sha256, and name the folder in the settings"
            )
        return found[0]


@functools.lru_cache(maxsize=16)
def _loaded(kind: str, path: Path, device: str) -> Calculator:
    """Load a model once per process, and see that it is the one that its name says."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not path.name.startswith(found):
        raise InputError(f"{path} is not the model that its name says: its sha256 is {found}")
    return potentials.calculator(kind, path, device)
