"""What a training with MACE begins with: a model, and the energies of its elements."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.finetuning.references import fit_references
from ionloop.codes.finetuning.settings import SCRATCH
from ionloop.codes.finetuning.training import obstacle_to
from ionloop.codes.mace.inputs import ENERGIES, START
from ionloop.codes.mace.potential import record, with_python
from ionloop.codes.mace.server import server
from ionloop.codes.potentials import predict_with
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.potential import Base, StoredFile

if TYPE_CHECKING:
    from ionloop.codes.mace.settings import MaceSettings

BEGUN = "begun.json"
"""File that is there once all is there that the training begins with."""

WARM = "warm.model"


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Parameters
    ----------
    energies
        Energy in eV of an atom alone, by chemical symbol.
    warm
        Whether the model is that of the last turn.
    obstacle
        Why it is not, though it was to be.
    """

    energies: dict[str, float]
    warm: bool = False
    obstacle: str = ""


@dataclass(frozen=True)
class Copy:
    """How the model to start from is copied.

    Parameters
    ----------
    dtype
        Precision of its weights.
    noise
        Standard deviation of the change of the last layer's weights, as a fraction of theirs.
    seed
        Seed of the change.
    """

    dtype: str
    noise: float
    seed: int


def probe(settings: MaceSettings) -> dict[str, Any]:
    """Start MACE's Python and return what `script.probe` says.

    Parameters
    ----------
    settings
        Python and device.

    Raises
    ------
    InputError
        If the device is not there.
    ProgramNotFoundError, MaceError
        If MACE is not there.
    """
    about = server(settings.python, settings.device).ask("probe")
    if not about["device"]:
        raise InputError(
            f"train.device: {settings.device} is asked for, and torch {about['versions']['torch']} "
            "of MACE's environment does not see it here; set it to cpu, or run where a GPU is and "
            "MACE's environment has a torch built for CUDA"
        )
    return about


def base_of(settings: MaceSettings) -> Base | None:
    """Return what the training's base is; None for a training from scratch.

    Parameters
    ----------
    settings
        Their base counts.

    Raises
    ------
    InputError
        If it is no file.
    """
    if settings.base == SCRATCH:
        return None
    path = Path(settings.base)
    if not path.is_file():
        raise InputError(
            f"train.base: {settings.base} is no file; give a .model file of MACE that is on this "
            "machine, since nothing is downloaded, or scratch"
        )
    return Base(name=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def identity(settings: MaceSettings, base: Base | None) -> dict[str, Any]:
    """Return what a training begins with: models that differ in it do not follow each other.

    Parameters
    ----------
    settings
        Base, or the net from scratch.
    base
        What `base_of` returns.
    """
    given = {key: getattr(settings, key) for key in start_keys(settings)}
    return given if base is None else {**given, "base": base.name, "sha256": base.sha256}


def start_keys(settings: MaceSettings) -> tuple[str, ...]:
    """Return the keys that decide what a training begins with.

    Parameters
    ----------
    settings
        Base, or the net from scratch.
    """
    if settings.base == SCRATCH:
        return ("base", "channels", "max_l", "layers", "r_max")
    return ("base", "head")


def look_at_base(settings: MaceSettings, elements: Sequence[str]) -> dict[str, float]:
    """Load the base and return the energies of atoms alone that it knows, in eV by symbol.

    Parameters
    ----------
    settings
        Base and Python.
    elements
        Chemical symbols that it must know.

    Raises
    ------
    InputError
        If it cannot be loaded, or lacks an element.
    """
    return _look(settings, Path(settings.base), elements, head=settings.head)


def begin(
    settings: MaceSettings,
    given: StoredFile | None,
    training: Sequence[Frames],
    elements: Sequence[str],
    copy: Copy,
    folder: Path,
) -> Beginning:
    """Write the model to start from and the energies of its elements, or return what was begun.

    The energies of the elements are those of the model and what the labels differ by. For a net
    from scratch they are fitted to the labels alone.

    Parameters
    ----------
    settings
        Base and Python.
    given
        Model of the last turn, if the training is to start from it.
    training
        Labelled frames.
    elements
        Chemical symbols that the model must know.
    copy
        How the base is copied.
    folder
        Where the files go.

    Raises
    ------
    InputError
        If the base lacks an element or does not fit the labels.
    """
    if (folder / BEGUN).exists():
        return Beginning(**json.loads((folder / BEGUN).read_text()))
    begun = _warm(settings, given, training, elements, copy, folder) if given else None
    if begun is None or begun.obstacle:
        cold = _cold(settings, training, elements, copy, folder)
        begun = replace(cold, obstacle=begun.obstacle if begun else "")
    _write_energies(begun.energies, elements, folder)
    part = folder / f"{BEGUN}.part"
    part.write_text(json.dumps(asdict(begun)))
    part.replace(folder / BEGUN)
    return begun


def _warm(
    settings: MaceSettings,
    given: StoredFile,
    training: Sequence[Frames],
    elements: Sequence[str],
    copy: Copy,
    folder: Path,
) -> Beginning:
    model = given.write(folder, WARM)
    wanted = identity(settings, base_of(settings))
    if obstacle := obstacle_to(record(model).get("began", {}), wanted):
        return Beginning({}, obstacle=obstacle)
    try:
        energies = _start_from(settings, model, training, elements, replace(copy, noise=0.0))
    except InputError as problem:
        return Beginning({}, obstacle=str(problem))
    return Beginning(energies, warm=True)


def _cold(
    settings: MaceSettings,
    training: Sequence[Frames],
    elements: Sequence[str],
    copy: Copy,
    folder: Path,
) -> Beginning:
    if settings.base != SCRATCH:
        base = Path(settings.base)
        return Beginning(_start_from(settings, base, training, elements, copy, folder))
    return Beginning(fit_references(training, [np.zeros(len(part)) for part in training]).shifts)


def _start_from(
    settings: MaceSettings,
    model: Path,
    training: Sequence[Frames],
    elements: Sequence[str],
    copy: Copy,
    folder: Path | None = None,
) -> dict[str, float]:
    """Copy a model, and return the energies of its elements that fit the labels."""
    # The last turn's model lies in the folder of the training, and has one head.
    start = (folder or model.parent) / START
    head = settings.head if folder else None
    about = {"to": str(start), "change": [copy.dtype, copy.noise, copy.seed]}
    energies = _look(settings, model, elements, head=head, **about)
    calculator = with_python(settings.python, start, settings.device)
    predictions = [predict_with(calculator, part) for part in training]
    fit = fit_references(training, [each.energies[0] for each in predictions])
    if settings.base != SCRATCH:
        settings.check_labels(training, predictions, model.name)
    return {symbol: energy + fit.shifts.get(symbol, 0.0) for symbol, energy in energies.items()}


def _look(
    settings: MaceSettings, model: Path, elements: Sequence[str], **about: Any
) -> dict[str, float]:
    mace = server(settings.python, settings.device)
    answer = mace.ask("prepare", model=str(model.absolute()), **about)
    energies: dict[str, float] = answer["energies"]
    if lacking := [symbol for symbol in elements if symbol not in energies]:
        raise InputError(
            f"{model.name} does not know {', '.join(lacking)}; it knows {', '.join(energies)}: "
            "give a base that was trained on all elements of the structures and data"
        )
    return energies


def _write_energies(energies: Mapping[str, float], elements: Sequence[str], folder: Path) -> None:
    """Write the energies as MACE reads them, of exactly the elements that the model gets."""
    from ase.data import atomic_numbers

    # An element without labels in a net from scratch has no energy that is known.
    wanted = {atomic_numbers[symbol]: energies.get(symbol, 0.0) for symbol in elements}
    (folder / ENERGIES).write_text(json.dumps(wanted))
