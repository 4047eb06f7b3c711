"""The rule that tells accurate frames, candidates and failed frames apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.selection.physical import PhysicalLimits, inspect

Window = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Observed:
    """What was measured on the f frames of a trajectory.

    Parameters
    ----------
    steps
        MD step of each frame, (f,).
    max_devi_f
        Maximum deviation of the forces in eV/Å, (f,).
    max_devi_v
        Maximum deviation of the virial per atom in eV/atom, (f,), if known.
    temperatures
        Instantaneous temperatures in K, (f,), if known, without what the perturbation of the start
        is expected to add to them.
    """

    steps: Array
    max_devi_f: Array
    max_devi_v: Array | None = None
    temperatures: Array | None = None


class Judgement(NamedTuple):
    """Verdicts on the frames of a trajectory, one entry per frame.

    Parameters
    ----------
    verdicts
        Words of `Verdict`, (f,).
    reasons
        Why, in a few words; frames with the same reason have the same words, (f,).
    min_distance_ratios
        Smallest distance over the limit of its pair, (f,); see `Inspection`.
    """

    verdicts: Array
    reasons: Array
    min_distance_ratios: Array


def classify(
    max_devi_f: ArrayLike,
    trust_f: Window,
    max_devi_v: ArrayLike | None = None,
    trust_v: Window | None = None,
) -> Array:
    """Classify frames by their model deviation.

    A frame is failed if a deviation is not finite or reaches the upper end of its window,
    accurate if every deviation is below the lower end, and a candidate otherwise: windows are
    ``[low, high)``.

    Parameters
    ----------
    max_devi_f
        Maximum force deviation in eV/Å, (f,) or a number.
    trust_f
        Window (low, high) on it in eV/Å.
    max_devi_v
        Maximum deviation of the virial per atom in eV/atom, as LAMMPS prints it, (f,) or a number;
        looked at only where `trust_v` is given.
    trust_v
        Window (low, high) on it in eV/atom.

    Returns
    -------
    Array
        ``"accurate"``, ``"candidate"`` or ``"failed"`` per frame, (f,).

    Raises
    ------
    ValueError
        If a window is not in order, a virial window comes without virial deviations, or the
        numbers of frames differ.
    """
    low, high = _levels(max_devi_f, trust_f, "trust_f")
    if trust_v is not None:
        if max_devi_v is None:
            raise ValueError("trust_v is given without max_devi_v: give both or neither")
        v_low, v_high = _levels(max_devi_v, trust_v, "trust_v")
        if len(v_low) != len(low):
            raise ValueError(
                f"max_devi_v has {len(v_low)} frames and max_devi_f {len(low)}: give one per frame"
            )
        low, high = low & v_low, high & v_high
    words = np.array([Verdict.FAILED, Verdict.CANDIDATE, Verdict.ACCURATE], dtype=str)
    return words[np.where(high, 1 + low, 0)]


def judge(
    frames: Frames,
    observed: Observed,
    trust: TrustWindow,
    *,
    target: float | None = None,
    start: Frames | None = None,
    limits: PhysicalLimits | None = None,
    skip: int = 0,
) -> Judgement:
    """Judge the frames of one trajectory: first the skipped ones, then physics, then deviations.

    Parameters
    ----------
    frames
        The f frames of the trajectory.
    observed
        Their MD steps, deviations and temperatures.
    trust
        Trust windows.
    target
        Temperature of the thermostat in K, needed if temperatures are given.
    start
        The frame with whose cell the cells are compared; they are not compared if absent.
    limits
        Physical limits; the defaults of `PhysicalLimits` if absent.
    skip
        Frames of MD steps below this one are set aside.

    Returns
    -------
    Judgement
        Verdicts, reasons and distance ratios, which unpack in this order.

    Raises
    ------
    ValueError
        As `classify` and `inspect` do.
    """
    verdicts = classify(observed.max_devi_f, trust.f, observed.max_devi_v, trust.v)
    reasons = _trust_reasons(verdicts, observed, trust)
    faults, ratios = inspect(
        frames, limits, start=start, temperatures=observed.temperatures, target=target
    )
    first = [np.asarray(observed.steps) < skip, faults != ""]
    verdicts = np.select(first, [Verdict.SKIPPED.value, Verdict.FAILED.value], verdicts)
    reasons = np.select(first, [f"before step {skip}", faults], reasons)
    return Judgement(verdicts, reasons, ratios)


def _levels(deviation: ArrayLike, window: Window, name: str) -> tuple[Array, Array]:
    """Tell which frames are below the lower level, and which below the upper one."""
    low, high = window
    if not low < high:
        raise ValueError(f"{name} = ({low}, {high}): the lower level must be below the upper one")
    values = np.atleast_1d(np.asarray(deviation, dtype=float))
    finite = np.isfinite(values)
    return finite & (values < low), finite & (values < high)


def _trust_reasons(verdicts: Array, observed: Observed, trust: TrustWindow) -> Array:
    """Say which deviation decided, per frame."""
    forces = np.asarray(observed.max_devi_f, dtype=float)
    finite = np.isfinite(forces)
    if trust.v is not None and observed.max_devi_v is not None:
        finite &= np.isfinite(np.asarray(observed.max_devi_v, dtype=float))
    first = {
        "deviation not finite": ~finite,
        "force deviation above the trust window": forces >= trust.high,
        "virial deviation above the trust window": verdicts == Verdict.FAILED,
        "below the trust window": verdicts == Verdict.ACCURATE,
    }
    return np.select(list(first.values()), list(first), "in the trust window")
