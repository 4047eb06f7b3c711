"""Predicted energies, forces and virials: how far models are from each other and from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import ForceErrors


@dataclass(frozen=True)
class Prediction:
    """What m models say about f frames of n atoms.

    Parameters
    ----------
    energies
        Total energies in eV, (m, f).
    forces
        Forces in eV/Å, (m, f, n, 3).
    virials
        Virials in eV, (m, f, 3, 3).
    """

    energies: Array
    forces: Array
    virials: Array

    @property
    def mean(self) -> Prediction:
        """The ensemble mean, as a prediction of one model."""
        return Prediction(*(array.mean(axis=0, keepdims=True) for array in self._arrays))

    def of(self, model: int) -> Prediction:
        """Return what one of the models says."""
        return Prediction(*(array[model : model + 1] for array in self._arrays))

    @property
    def is_finite(self) -> bool:
        """Whether no number is NaN or infinite."""
        return all(np.isfinite(array).all() for array in self._arrays)

    @property
    def _arrays(self) -> tuple[Array, Array, Array]:
        return self.energies, self.forces, self.virials


def ensemble_deviation(forces: Array) -> Array:
    """Return the maximum force deviation of every frame.

    ``max_i sqrt(<|F_i - <F_i>|^2>)`` over atoms i, averages over the m models (population
    variance): eq. (1) of Huang et al., J. Chem. Phys. 154, 094703 (2021), as DeePMD-kit and
    LAMMPS print it.

    Parameters
    ----------
    forces
        Forces of m models on f frames of n atoms in eV/Å, (m, f, n, 3).

    Returns
    -------
    Array
        max_devi_f in eV/Å, (f,).
    """
    deviation: Array = np.sqrt(np.var(forces, axis=0).sum(axis=-1)).max(axis=-1)
    return deviation


def ensemble_virial_deviation(virials: Array, n_atoms: int) -> Array:
    """Return the maximum virial deviation of every frame.

    The standard deviation over models of each of the nine components of the virial per atom, and
    the largest of the nine, as DeePMD-kit and LAMMPS print it.

    Parameters
    ----------
    virials
        Virials of m models on f frames in eV, (m, f, 3, 3).
    n_atoms
        Atoms per frame.

    Returns
    -------
    Array
        max_devi_v in eV/atom, (f,).
    """
    deviation: Array = np.std(virials, axis=0).max(axis=(-2, -1)) / n_atoms
    return deviation


def force_errors(predictions: Sequence[Prediction], frames: Sequence[Frames]) -> ForceErrors:
    """Compare predictions with labels, component by component.

    Parameters
    ----------
    predictions
        One per entry of `frames`; of several models, the mean is compared.
    frames
        Labelled frames.

    Returns
    -------
    ForceErrors
        Root-mean-square errors. Energies are compared as they are, with nothing shifted; virials
        only where the frames have them.

    Raises
    ------
    ValueError
        If there is no frame, or a frame has no label.
    """
    if not sum(len(part) for part in frames):
        raise ValueError("errors need at least one labelled frame")
    pairs = [(p.mean, f) for p, f in zip(predictions, frames, strict=True) if len(f)]
    with_virials = [(p, f) for p, f in pairs if f.virials is not None]
    energies = [(p.energies[0] - _label(f, "energies")) / f.n_atoms for p, f in pairs]
    virials = [(p.virials[0] - _label(f, "virials")) / f.n_atoms for p, f in with_virials]
    return ForceErrors(
        n_frames=sum(len(f) for _, f in pairs),
        energy_mev_per_atom=_rms(energies),
        force_mev_per_angstrom=_rms([p.forces[0] - _label(f, "forces") for p, f in pairs]),
        virial_mev_per_atom=_rms(virials) if virials else None,
        force_rms_mev_per_angstrom=_rms([_label(f, "forces") for _, f in pairs]),
    )


def _label(frames: Frames, name: str) -> Array:
    array: Array | None = getattr(frames, name)
    if array is None:
        raise ValueError(f"{frames!r} has no {name} to compare with")
    return array


def _rms(differences: Sequence[Array]) -> float:
    """Return the root mean square in thousandths."""
    flat = np.concatenate([difference.ravel() for difference in differences])
    return 1000 * float(np.sqrt(np.mean(flat**2)))
