"""Reference energies of the elements: what a base potential lacks to have the labels' zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
            "(train.max_residual): they are of a level of theory far from that of the base, in "
            "other units, or of several levels together; choose another base, check the labels' "
            "units, or raise train.max_residual if you know why"
        )
