"""Reference energies of the elements: what a base potential lacks to have the labels' zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ionloop.codes.common.prediction import Prediction, force_errors
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array


@dataclass(frozen=True)
class ReferenceFit:
    """A fit of the energies of elements to the differences between labels and predictions.

    Parameters
    ----------
    shifts
        Energy in eV to add per atom of each element.
    residual
        Root mean square in eV/atom of what the shifts leave.
    """

    shifts: dict[str, float]
    residual: float


def fit_references(frames: Sequence[Frames], predicted: Sequence[Array]) -> ReferenceFit:
    """Fit an energy per element to the difference between labels and predictions, least squares.

    Where the compositions do not determine the energies, the solution of minimum norm is taken.

    Parameters
    ----------
    frames
        Labelled frames.
    predicted
        Energies in eV that the base predicts, (f,) for each entry of `frames`.

    Raises
    ------
    InputError
        If there is no frame, or a frame has no energy.
    """
    if not sum(map(len, frames)):
        raise InputError("reference energies need at least one labelled frame")
    symbols = sorted({symbol for part in frames for symbol in part.symbols})
    counts, differences = [], []
    for part, energies in zip(frames, predicted, strict=True):
        if part.energies is None:
            raise InputError(f"{part!r} has no energies, which a training needs")
        row = [part.symbols.count(symbol) / part.n_atoms for symbol in symbols]
        counts += [row] * len(part)
        differences.append((part.energies - energies) / part.n_atoms)
    matrix, vector = np.array(counts), np.concatenate(differences)
    shifts, *_ = np.linalg.lstsq(matrix, vector, rcond=None)
    residual = float(np.sqrt(np.mean((matrix @ shifts - vector) ** 2)))
    return ReferenceFit(dict(zip(symbols, shifts.tolist(), strict=True)), residual)


_FAR = (
    "they are of a level of theory far from that of the base, in other units, or of several levels "
    "together; choose another base, check the labels' units"
)


def check_residual(fit: ReferenceFit, largest: float, base: str) -> None:
    """Check that labels and base describe the same energies, up to the reference energies.

    Parameters
    ----------
    fit
        The fit.
    largest
        Largest residual in eV/atom.
    base
        Name of the base, for the message.

    Raises
    ------
    InputError
        If the residual is larger.
    """
    if fit.residual > largest:
        raise InputError(
            f"the labels' energies differ from those of {base} by {fit.residual:.3g} eV/atom (root "
            f"mean square) after the reference energies were fitted, more than {largest:g} "
            f"(train.max_residual): {_FAR}, or raise train.max_residual if you know why"
        )


def check_forces(
    frames: Sequence[Frames], predictions: Sequence[Prediction], largest: float, base: str
) -> None:
    """Check that labels and base describe the same forces.

    Of frames of one composition the energies alone tell little: their spread is small in any unit.

    Parameters
    ----------
    frames
        Labelled frames.
    predictions
        What the base predicts for each entry of `frames`.
    largest
        Largest error, divided by the forces of labels or base, whichever are smaller; all as root
        mean square.
    base
        Name of the base, for the message.

    Raises
    ------
    InputError
        If the error is larger.
    """
    found = force_errors(predictions, frames)
    error, label = found.force_mev_per_angstrom / 1000, found.force_rms_mev_per_angstrom / 1000
    forces = np.concatenate([each.forces[0].ravel() for each in predictions])
    own = float(np.sqrt(np.mean(forces**2)))
    if error > largest * min(label, own):
        raise InputError(
            f"the labels' forces differ from those of {base} by {error:.3g} eV/Å, more than "
            f"{largest:g} times (train.max_force_ratio) the smaller of the labels' own "
            f"{label:.3g} and the base's {own:.3g} (all root mean squares): {_FAR}, or raise "
            "train.max_force_ratio if you know why, such as labels of relaxed structures alone"
        )


def drift(frames: Sequence[Frames], predictions: Sequence[Prediction]) -> float:
    """Return the mean energy in eV/atom by which labels are above predictions.

    Parameters
    ----------
    frames
        Labelled frames.
    predictions
        What a model predicts for each entry of `frames`.
    """
    pairs = zip(frames, predictions, strict=True)
    above = [(part.energies - each.energies[0]) / part.n_atoms for part, each in pairs]
    return float(np.mean(np.concatenate(above)))
