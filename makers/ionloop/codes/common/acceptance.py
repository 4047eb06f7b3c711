"""Acceptance of labels: what every labeller shares once its calculation is over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from ionloop.codes.common.errors import OtherLevelError
from ionloop.geometry.periodic import fractional, nearest_image
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Calculation, LabelDoc, LabelStatus, LevelOfTheory, RejectReason
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

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.energy_window is not None and not self.energy_window[0] < self.energy_window[1]:
            low, high = self.energy_window
            raise ValueError(
                f"energy_window is [{low:g}, {high:g}]: no energy lies in it; write the lowest "
                "energy first"
            )
        return self


class Terms(Model):
    """On what terms a run takes a label from the ledger, or buys one."""

    level: LevelOfTheory
    limits: AcceptanceLimits = AcceptanceLimits()
    effort: dict[str, Any] = Field(
        default_factory=dict,
        description="settings outside the level that decide whether there is a result",
    )


def accept(
    request: Frames, result: Calculated, level: LevelOfTheory, limits: AcceptanceLimits
) -> LabelDoc:
    """Keep a finished calculation, and judge it.

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
        Accepted, or rejected with the reason and a sentence; with the labelled frame where its
        numbers are whole, finite and of the level asked for, else with the bare one.

    Raises
    ------
    ValueError
        If `request` is not one frame.
    """
    doc = _start(request, level, result.seconds, result.cores)
    calculation = _calculation(request, result)
    faults = (calculation.misshaped, calculation.non_finite, calculation.level_difference)
    if not any(faults):  # numbers of another level have no place under this key
        doc |= {"frame": _labelled(request, result, level), "energy": float(result.energy)}
    return judged(LabelDoc(**doc, calculation=calculation, status=LabelStatus.ACCEPTED), limits)


def judged(label: LabelDoc, limits: AcceptanceLimits) -> LabelDoc:
    """Return a label with the verdict that follows from its calculation and these limits.

    Where there was no result, and where version 0.1 wrote a rejection (which kept no numbers),
    the verdict that is there stays.

    Parameters
    ----------
    label
        A label from anywhere.
    limits
        Limits of acceptance of the run at hand.
    """
    if _kept_nothing(label):
        return label
    for reason, objection in _CHECKS:
        if detail := objection(label, limits):
            return _with_verdict(label, LabelStatus.REJECTED, reason, detail)
    return _with_verdict(label, LabelStatus.ACCEPTED, None, "")


def stands(label: LabelDoc, terms: Terms) -> bool:
    """Tell whether a frame with this label needs no calculation on these terms.

    It needs one where there was no result, where a rejection by version 0.1 kept no numbers to
    judge, and where the calculation is no use for another reason than the limits and was made with
    another effort, such as fewer electronic steps.
    """
    if _kept_nothing(label):
        return False
    reason = judged(label, terms.limits).reason
    return reason in (None, RejectReason.OUTLIER) or _same(label.effort, terms.effort)


def _kept_nothing(label: LabelDoc) -> bool:
    return label.calculation is None and label.reason is not None


def _same(effort: dict[str, Any], other: dict[str, Any]) -> bool:
    # A store gives lists back for tuples.
    return json.dumps(effort, sort_keys=True) == json.dumps(other, sort_keys=True)


def _with_verdict(
    label: LabelDoc, status: LabelStatus, reason: RejectReason | None, detail: str
) -> LabelDoc:
    return label.model_copy(update={"status": status, "reason": reason, "detail": detail})


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


def _calculation(request: Frames, result: Calculated) -> Calculation:
    facts: dict[str, Any] = {
        "converged": result.converged,
        "misshaped": _misshape(request, result),
        "level_difference": result.level_difference,
    }
    if not facts["misshaped"]:
        facts["non_finite"] = _not_finite(result)
    # Of a result that is not whole nobody can say where its atoms are.
    if not any(facts.get(name) for name in ("misshaped", "non_finite")):
        facts |= _moves(request, result)
    return Calculation(**facts)


def _misshape(request: Frames, result: Calculated) -> str:
    n = request.n_atoms
    expected = {"forces": (n, 3), "virial": (3, 3), "positions": (n, 3), "cell": (3, 3)}
    for name, shape in expected.items():
        array = getattr(result, name)
        if array is not None and np.shape(array) != shape:
            return f"{name} has shape {np.shape(array)}, expected {shape}"
    return ""


def _not_finite(result: Calculated) -> str:
    for name in ("energy", "forces", "virial", "positions", "cell"):
        value = getattr(result, name)
        if value is not None and not np.all(np.isfinite(value)):
            return f"the result holds NaN or infinity ({name})"
    return ""


def _moves(request: Frames, result: Calculated) -> dict[str, float]:
    asked, moves = request.cells[0], {}
    if result.cell is not None:
        moves["cell_change"] = float(np.linalg.norm(result.cell - asked, axis=1).max())
    if result.positions is not None:
        # Programs wrap atoms into the cell: a lattice vector is no displacement.
        steps = nearest_image(fractional(result.positions - request.positions[0], asked))
        moves["displacement"] = float(np.linalg.norm(steps @ asked, axis=1).max())
    return moves


def _unconverged(label: LabelDoc, limits: AcceptanceLimits) -> str:
    return "" if _of(label).converged else "the electronic steps did not converge"


def _misshaped(label: LabelDoc, limits: AcceptanceLimits) -> str:
    return _of(label).misshaped


def _non_finite(label: LabelDoc, limits: AcceptanceLimits) -> str:
    return _of(label).non_finite


def _moved(label: LabelDoc, limits: AcceptanceLimits) -> str:
    change, distance = _of(label).cell_change, _of(label).displacement
    if change > limits.position_tolerance:
        return f"the calculated cell differs from the requested one by {change:.4g} Å"
    if distance > limits.position_tolerance:
        return f"a calculated atom is {distance:.4g} Å from where it was requested"
    return ""


def _outlier(label: LabelDoc, limits: AcceptanceLimits) -> str:
    force = label.largest_force
    if force is not None and force > limits.max_force:
        return (
            f"a force of {force:.4g} eV/Å{_on_atom(label)} exceeds max_force "
            f"({limits.max_force} eV/Å)"
        )
    if label.energy is None or limits.energy_window is None:
        return ""
    energy, (low, high) = label.energy / label.n_atoms, limits.energy_window
    if not low <= energy <= high:
        return f"{energy:.4f} eV/atom is outside energy_window ({low} to {high} eV/atom)"
    return ""


def _on_atom(label: LabelDoc) -> str:
    if label.frame.forces is None:
        return ""
    atom = int(np.linalg.norm(label.frame.forces[0], axis=1).argmax())
    return f" on atom {atom + 1} ({label.frame.symbols[atom]})"


def _other_level(label: LabelDoc, limits: AcceptanceLimits) -> str:
    return _of(label).level_difference


def _of(label: LabelDoc) -> Calculation:
    # Version 0.1 kept the calculations that it accepted, and only those.
    return label.calculation or Calculation()


_Check = Callable[[LabelDoc, AcceptanceLimits], str]

_CHECKS: tuple[tuple[RejectReason, _Check], ...] = (
    (RejectReason.UNCONVERGED, _unconverged),
    (RejectReason.MISSHAPED, _misshaped),
    (RejectReason.NON_FINITE, _non_finite),
    (RejectReason.MISSHAPED, _moved),
    (RejectReason.OUTLIER, _outlier),
    (RejectReason.OTHER_LEVEL, _other_level),
)
