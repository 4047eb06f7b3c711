"""Settings of the potentials that are trained in this process, with torch."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import NonNegativeInt, model_validator

from ionloop.codes.common.training import Training
from ionloop.codes.finetuning.elements import others_with
from ionloop.codes.finetuning.net import Net
from ionloop.codes.finetuning.settings import SCRATCH, FineTuner
from ionloop.programs.errors import MissingExtraError
from ionloop.schemas.errors import InputError, MissingFileError
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import StoredFile


class TorchFineTuner(FineTuner):
    """How a potential is fine-tuned in this process."""

    package: ClassVar[str]
    """name of the package"""
    model_name: ClassVar[str]
    """name of its model files"""
    start_keys: ClassVar[tuple[str, ...]] = ()
    """settings beside the base that decide what a training begins with"""
    network_keys: ClassVar[tuple[str, ...]]
    """settings of a network from scratch"""

    freeze: Literal["none", "embedding", "all_but_readout"] | NonNegativeInt = "none"
    """weights that stay as the base has them: none; embedding; all_but_readout (embedding and all
    interaction blocks); or a number of interaction blocks, from the first, with the embedding"""

    @model_validator(mode="after")
    def _check_scratch(self) -> Self:
        if self.from_scratch and self.steps is None:
            raise ValueError("base: scratch needs steps, some thousands; the default is for a base")
        return self

    @property
    def from_scratch(self) -> bool:
        """Whether the weights are random at the start."""
        return self.base == SCRATCH

    def frozen_blocks(self, n_blocks: int) -> int:
        """Return the number of interaction blocks that are frozen; -1: not even the embedding.

        Parameters
        ----------
        n_blocks
            Interaction blocks of the potential.
        """
        if isinstance(self.freeze, int):
            return self.freeze
        return {"none": -1, "embedding": 0, "all_but_readout": n_blocks}[self.freeze]

    @abstractmethod
    def bundled(self) -> Mapping[str, Path]:
        """Return the files of the bases that come with the package, by their names."""

    @abstractmethod
    def open(self, path: Path) -> Net:
        """Open a model file.

        Parameters
        ----------
        path
            A model file.

        Raises
        ------
        InputError
            If it is no model file of the package, or of a later version.
        """

    @abstractmethod
    def random_net(self, type_map: Sequence[str], training: Sequence[Frames], seed: int) -> Net:
        """Return a net with random weights.

        Parameters
        ----------
        type_map
            Chemical symbols that it knows.
        training
            Labelled frames, from which its scales are taken.
        seed
            Seed of the weights.
        """

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of torch and of the package.

        Raises
        ------
        MissingExtraError
            If one is not installed.
        """
        try:
            return {name: metadata.version(name) for name in (self.package, "torch")}
        except metadata.PackageNotFoundError as error:
            purpose = f"training with {self.package}"
            raise MissingExtraError(str(error.name), "forcefield", purpose) from error

    def package_folder(self) -> Path:
        """Return the folder of the package, which is not imported for it.

        Raises
        ------
        MissingExtraError
            If it is not installed.
        """
        assert self.versions
        spec = find_spec(self.package)
        assert spec and spec.origin
        return Path(spec.origin).parent

    def base_path(self) -> Path:
        """Return the file of the base.

        Raises
        ------
        MissingFileError
            If there is no such name and no such file.
        MissingExtraError
            If the package is not installed.
        """
        known = self.bundled()
        path = known.get(self.base.lower(), Path(self.base))
        if not path.is_file():
            raise MissingFileError(
                f"train.base: {self.base} is neither a file nor a base that comes with "
                f"{self.package}; known: {', '.join(known)}, {SCRATCH}"
            )
        return path

    def other_start(self, other: TorchFineTuner) -> list[str]:
        """Return the keys in which two trainings begin otherwise.

        Parameters
        ----------
        other
            Settings of the same package.
        """
        keys = ["base", *self.start_keys, *(self.network_keys if self.from_scratch else ())]
        return [key for key in keys if getattr(self, key) != getattr(other, key)]

    def identity(self, type_map: Sequence[str]) -> dict[str, Any]:
        """Return what a model begins with: models that differ in it do not follow each other.

        Parameters
        ----------
        type_map
            Chemical symbols that it must know.
        """
        given = {key: value for key in self.start_keys if (value := getattr(self, key)) is not None}
        if self.from_scratch:
            network = {key: getattr(self, key) for key in self.network_keys}
            return {"base": SCRATCH, "elements": sorted(type_map), **network, **given}
        path = self.base_path()
        name = self.base.lower() if self.base.lower() in self.bundled() else path.name
        return {"base": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **given}

    def new_net(self, type_map: Sequence[str], training: Sequence[Frames], seed: int) -> Net:
        """Return the net that a training begins with: the base, or random weights.

        Parameters
        ----------
        type_map, training, seed
            As for `random_net`.
        """
        if self.from_scratch:
            net = self.random_net(type_map, training, seed)
        else:
            net = self.open(self.base_path())
        net.about = self.identity(type_map)
        return net

    def check_elements(self, known: Collection[str], wanted: Sequence[str]) -> None:
        """Check that a base knows every element.

        Parameters
        ----------
        known, wanted
            Chemical symbols of the base, and of the run.

        Raises
        ------
        InputError
            If the base lacks one.
        """
        missing = [symbol for symbol in dict.fromkeys(wanted) if symbol not in known]
        if not missing:
            return
        others = others_with(missing)
        cure = (
            f"these do: {', '.join(others)}" if others else "no base that comes with a package does"
        )
        raise InputError(
            f"train.base: {self.base} does not know {', '.join(missing)}; {cure}, and "
            f"base: {SCRATCH} takes any element"
        )

    def train(
        self,
        training: Sequence[Frames],
        validation: Sequence[Frames] = (),
        *,
        type_map: Sequence[str],
        seed: int,
        folder: Path,
        checkpoint: StoredFile | None = None,
        alone: bool = False,
    ) -> Training:
        """Train one model; see `FineTuner.train`.

        Parameters
        ----------
        training, validation, type_map, seed, folder, checkpoint, alone
            As for `FineTuner.train`.
        """
        from ionloop.codes.finetuning.training import Task, fine_tune

        frames = [frame for part in training for frame in part]
        held = [frame for part in validation for frame in part]
        return fine_tune(self, Task(frames, held, type_map, seed, folder, checkpoint, alone))
