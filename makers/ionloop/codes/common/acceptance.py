"""Acceptance of labels: how the result of any labeller is judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from ionloop.codes.common.errors import OtherLevelError
from ionloop.formats.ase import label_of
from ionloop.geometry.periodic import fractional, nearest_image
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Calculation, LabelDoc, LabelStatus, LevelOfTheory, RejectReason
from ionloop.schemas.packed import Array
from ionloop.schemas.units import EnergyPerAtom, Force, Length


@dataclass(frozen=True, eq=False)
class Calculated:
    """Result of a labeller for one frame, before it is judged.

    Parameters
    ----------
    energy
        Total energy in eV, the one that the forces derive from.
    forces
        Forces in eV/Å, (n, 3).
    virial
        Virial in eV, (3, 3): minus stress times volume; None without a stress.
    positions
        Positions in Å that the program reports for its calculation, (n, 3); None if it does not.
    cell
        Cell in Å that the program reports for its calculation, (3, 3); None if it does not.
    converged
        Whether the electronic steps converged, as the program reports it.
    seconds
        Wall time in s; 0: it is measured around the calculation.
    cores
        Cores it ran on.
    level_difference
        How the run differs from the level of theory asked for; empty if it does not.
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

    max_force: Annotated[Force, Field(gt=0)] = 100.0
    """largest force on an atom in eV/Å; above it the label is an outlier"""
    energy_window: tuple[EnergyPerAtom, EnergyPerAtom] | None = None
    """lowest and highest energy in eV/atom; outside the label is an outlier"""
    position_tolerance: Annotated[Length, Field(gt=0)] = 1e-3
    """how far in Å a calculated atom or cell vector may be from the request"""

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
    """Conditions on which a run takes a label from the ledger or calculates it anew."""

    level: LevelOfTheory
    limits: AcceptanceLimits = AcceptanceLimits()
    effort: dict[str, Any] = Field(default_factory=dict)
    """settings outside the level that decide whether there is a result"""


def accept(
    request: Frames, result: Calculated, level: LevelOfTheory, limits: AcceptanceLimits
) -> LabelDoc:
    """Judge a finished calculation, and keep it as a label.

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
        Accepted, or rejected with the reason and a sentence. It holds the labelled frame if the
        numbers are complete, finite and of the level asked for, else the frame without labels.

    Raises
    ------
    ValueError
        If `request` is not one frame.
    """
    doc = _start(request, level, result.seconds, result.cores)
    calculation = _calculation(request, result)
    faults = (calculation.misshaped, calculation.non_finite, calculation.level_difference)
    if not any(faults):  # numbers of another level must not be stored under this key
        numbers = label_of(result.energy, result.forces, result.virial, doc["level"])
        labelled = replace(doc["frame"], **numbers)
        doc |= {"frame": labelled, "energy": float(result.energy)}
    return judged(LabelDoc(**doc, calculation=calculation, status=LabelStatus.ACCEPTED), limits)


def judged(label: LabelDoc, limits: AcceptanceLimits) -> LabelDoc:
    """Return a label with the verdict that follows from its calculation and these limits.

    The verdict does not change if there was no result, or if version 0.1 rejected the label, which
    kept no numbers then.

    Parameters
    ----------
    label
        A label from any source.
    limits
        Limits of acceptance of this run.
    """
    if _kept_nothing(label):
        return label
    objections = ((reason, detail) for reason, detail in _objections(label, limits) if detail)
    reason, detail = next(objections, (None, ""))
    status = LabelStatus.REJECTED if detail else LabelStatus.ACCEPTED
    return label.model_copy(update={"status": status, "reason": reason, "detail": detail})


def stands(label: LabelDoc, terms: Terms) -> bool:
    """Tell whether a frame with this label needs no calculation on these terms.

    It needs one if there was no result, if version 0.1 rejected the label and kept no numbers to
    judge, or if the calculation is unusable for another reason than the limits and was made with
    another effort, such as fewer electronic steps.

    Parameters
    ----------
    label
        A label from any source.
    terms
        Level of theory, limits and effort of this run.
    """
    if _kept_nothing(label):
        return False
    reason = judged(label, terms.limits).reason
    # Compared as JSON, because a store gives lists back for tuples.
    efforts = {json.dumps(effort, sort_keys=True) for effort in (label.effort, terms.effort)}
    return reason in (None, RejectReason.OUTLIER) or len(efforts) == 1


def _kept_nothing(label: LabelDoc) -> bool:
    return label.calculation is None and label.reason is not None


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
    reason = RejectReason.OTHER_LEVEL
    if not isinstance(exception, OtherLevelError):
        reason = RejectReason.LABELLER_FAILED
        words = f"the labeller raised {type(exception).__name__}: {words}"
    doc = _start(request, level, seconds, cores)
    return LabelDoc(**doc, status=LabelStatus.REJECTED, reason=reason, detail=words)


def _start(request: Frames, level: LevelOfTheory, seconds: float, cores: int) -> dict[str, Any]:
    if len(request) != 1:
        raise ValueError(f"a label is for one frame, got {len(request)}")
    of_frame = level.of(request.species)
    return {
        "frame_id": request.ids[0],
        "level": of_frame.hash,
        "level_words": of_frame.description,
        "species": request.species,
        "n_atoms": request.n_atoms,
        "seconds": seconds,
        "cores": cores,
        "frame": request.unlabelled(),
    }


def _calculation(request: Frames, result: Calculated) -> Calculation:
    misshaped = _misshape(request, result)
    non_finite = "" if misshaped else _not_finite(result)
    return Calculation(
        converged=result.converged,
        misshaped=misshaped,
        non_finite=non_finite,
        level_difference=result.level_difference,
        # The atoms of an incomplete result cannot be compared with the request.
        **({} if misshaped or non_finite else _moves(request, result)),
    )


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


def _objections(label: LabelDoc, limits: AcceptanceLimits) -> Iterator[tuple[RejectReason, str]]:
    """Yield what may be wrong with a calculation, in the order of the checks; "" if nothing is."""
    # Version 0.1 kept the calculations that it accepted, and only those.
    found = label.calculation or Calculation()
    yield (
        RejectReason.UNCONVERGED,
        "" if found.converged else "the electronic steps did not converge",
    )
    yield RejectReason.MISSHAPED, found.misshaped
    yield RejectReason.NON_FINITE, found.non_finite
    yield RejectReason.MISSHAPED, _moved(found, limits)
    yield RejectReason.OUTLIER, _outlier(label, limits)
    yield RejectReason.OTHER_LEVEL, found.level_difference


def _moved(found: Calculation, limits: AcceptanceLimits) -> str:
    if found.cell_change > limits.position_tolerance:
        return f"the calculated cell differs from the requested one by {found.cell_change:.4g} Å"
    if found.displacement > limits.position_tolerance:
        return f"a calculated atom is {found.displacement:.4g} Å from where it was requested"
    return ""


def _outlier(label: LabelDoc, limits: AcceptanceLimits) -> str:
    force, place = label.largest_force, ""
    if force is not None and force > limits.max_force:
        if label.frame.forces is not None:
            atom = int(np.linalg.norm(label.frame.forces[0], axis=1).argmax())
            place = f" on atom {atom + 1} ({label.frame.symbols[atom]})"
        return f"a force of {force:.4g} eV/Å{place} exceeds max_force ({limits.max_force} eV/Å)"
    if label.energy is None or limits.energy_window is None:
        return ""
    energy, (low, high) = label.energy / label.n_atoms, limits.energy_window
    if not low <= energy <= high:
        return f"{energy:.4f} eV/atom is outside energy_window ({low} to {high} eV/atom)"
    return ""
