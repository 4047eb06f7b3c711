"""Acceptance of labels: what every labeller shares once its calculation is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ionloop.codes.errors import OtherLevelError
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import LabelDoc, LabelStatus, LevelOfTheory, RejectReason
from ionloop.schemas.packed import Array
from ionloop.schemas.units import EnergyPerAtom, Force, Length


@dataclass(frozen=True, eq=False)
class Calculated:
    """What a labeller gives back for one frame, before it is judged.

    Parameters
    ----------
    energy
        Total energy in eV, the one that the forces derive from.
    forces
        Forces in eV/Å, (n, 3).
    virial
        Virial in eV, (3, 3): minus stress times volume; None without a stress.
    positions
        Positions in Å that the program says it calculated, (n, 3), if it says.
    cell
        Cell in Å that the program says it calculated, (3, 3), if it says.
    converged
        Whether the program says that its electronic steps converged.
    seconds
        Wall time in s.
    cores
        Cores it ran on.
    level_difference
        In what the run differs from the level of theory asked for; empty where in nothing.
    """

    energy: float
    forces: Array
    virial: Array | None = None
    positions: Array | None = None
    cell: Array | None = None
    converged: bool = True
    seconds: float = 0.0
    cores: int = 1
    level_difference: str = ""


class AcceptanceLimits(Model):
    """Limits beyond which a finished calculation is not taken as a label."""

    max_force: Annotated[Force, Field(gt=0)] = Field(
        100.0, description="largest force on an atom in eV/Å; above it the label is an outlier"
    )
    energy_window: tuple[EnergyPerAtom, EnergyPerAtom] | None = Field(
        None, description="lowest and highest energy in eV/atom; outside the label is an outlier"
    )
    position_tolerance: Annotated[Length, Field(gt=0)] = Field(
        1e-3, description="how far in Å a calculated atom or cell vector may be from the request"
    )


def accept(
    request: Frames, result: Calculated, level: LevelOfTheory, limits: AcceptanceLimits
) -> LabelDoc:
    """Judge a finished calculation.

    Parameters
    ----------
    request
        The one frame that was asked for.
    result
        What the labeller gave.
    level
        Level of theory of the result.
    limits
        Limits of acceptance.

    Returns
    -------
    LabelDoc
        Accepted, with the labelled frame, or rejected, with the bare frame, the reason and a
        sentence.

    Raises
    ------
    ValueError
        If `request` is not one frame.
    """
    doc = _start(request, level, result.seconds, result.cores)
    for reason, objection in _CHECKS:
        detail = objection(request, result, limits)
        if detail:
            return LabelDoc(**doc, status=LabelStatus.REJECTED, reason=reason, detail=detail)
    doc["frame"] = _labelled(request, result, level)
    return LabelDoc(**doc, status=LabelStatus.ACCEPTED, energy=float(result.energy))


def failed(
    request: Frames,
    level: LevelOfTheory,
    exception: BaseException,
    seconds: float = 0.0,
    cores: int = 1,
) -> LabelDoc:
    """Record that the labeller gave no result for a frame.

    Parameters
    ----------
    request
        The one frame that was asked for.
    level
        Level of theory that was asked for.
    exception
        What was raised.
    seconds
        Wall time spent, in s.
    cores
        Cores it ran on.

    Raises
    ------
    ValueError
        If `request` is not one frame.
    """
    words = " ".join(str(exception).split())
    doc = _start(request, level, seconds, cores) | {"status": LabelStatus.REJECTED}
    if isinstance(exception, OtherLevelError):
        return LabelDoc(**doc, reason=RejectReason.OTHER_LEVEL, detail=words)
    return LabelDoc(
        **doc,
        reason=RejectReason.LABELLER_FAILED,
        detail=f"the labeller raised {type(exception).__name__}: {words}",
    )


def _start(request: Frames, level: LevelOfTheory, seconds: float, cores: int) -> dict[str, Any]:
    if len(request) != 1:
        raise ValueError(f"a label is for one frame, got {len(request)}")
    of_frame = level.of(request.species)
    return {
        "frame_id": request.ids[0],
        "level": of_frame.hash,
        "level_words": of_frame.words,
        "species": request.species,
        "n_atoms": request.n_atoms,
        "seconds": seconds,
        "cores": cores,
        "frame": request.unlabelled(),
    }


def _labelled(request: Frames, result: Calculated, level: LevelOfTheory) -> Frames:
    return Frames(
        symbols=request.symbols,
        positions=request.positions,
        cells=request.cells,
        energies=np.array([result.energy]),
        forces=np.array([result.forces]),
        virials=None if result.virial is None else np.array([result.virial]),
        level=level.of(request.species).hash,
        groups=request.groups,
    )


def _unconverged(request: Frames, result: Calculated, limits: AcceptanceLimits) -> str:
    return "" if result.converged else "the electronic steps did not converge"


def _misshaped(request: Frames, result: Calculated, limits: AcceptanceLimits) -> str:
    n = request.n_atoms
    expected = {"forces": (n, 3), "virial": (3, 3), "positions": (n, 3), "cell": (3, 3)}
    for name, shape in expected.items():
        array = getattr(result, name)
        if array is not None and np.shape(array) != shape:
            return f"{name} has shape {np.shape(array)}, expected {shape}"
    return ""


def _non_finite(request: Frames, result: Calculated, limits: AcceptanceLimits) -> str:
    for name in ("energy", "forces", "virial", "positions", "cell"):
        value = getattr(result, name)
        if value is not None and not np.all(np.isfinite(value)):
            return f"the result holds NaN or infinity ({name})"
    return ""


def _moved(request: Frames, result: Calculated, limits: AcceptanceLimits) -> str:
    asked = request.cells[0]
    if result.cell is not None:
        change = np.linalg.norm(result.cell - asked, axis=1).max()
        if change > limits.position_tolerance:
            return f"the calculated cell differs from the requested one by {change:.4g} Å"
    if result.positions is not None:
        distance = _largest_distance(result.positions - request.positions[0], asked)
        if distance > limits.position_tolerance:
            return f"a calculated atom is {distance:.4g} Å from where it was requested"
    return ""


def _largest_distance(moves: Array, cell: Array) -> float:
    # Programs wrap atoms into the cell: a lattice vector is no move.
    fractional = moves @ np.linalg.inv(cell)
    return float(np.linalg.norm((fractional - np.rint(fractional)) @ cell, axis=1).max())


def _outlier(request: Frames, result: Calculated, limits: AcceptanceLimits) -> str:
    force = float(np.linalg.norm(result.forces, axis=1).max())
    if force > limits.max_force:
        return f"a force of {force:.4g} eV/Å exceeds max_force ({limits.max_force} eV/Å)"
    energy = result.energy / request.n_atoms
    if limits.energy_window and not limits.energy_window[0] <= energy <= limits.energy_window[1]:
        low, high = limits.energy_window
        return f"{energy:.4f} eV/atom is outside energy_window ({low} to {high} eV/atom)"
    return ""


def _other_level(request: Frames, result: Calculated, limits: AcceptanceLimits) -> str:
    return result.level_difference


_Check = Callable[[Frames, Calculated, AcceptanceLimits], str]
_CHECKS: tuple[tuple[RejectReason, _Check], ...] = (
    (RejectReason.UNCONVERGED, _unconverged),
    (RejectReason.MISSHAPED, _misshaped),
    (RejectReason.NON_FINITE, _non_finite),
    (RejectReason.MISSHAPED, _moved),
    (RejectReason.OUTLIER, _outlier),
    (RejectReason.OTHER_LEVEL, _other_level),
)
