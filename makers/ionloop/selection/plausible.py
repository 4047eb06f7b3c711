"""Whether numbers can be in Å, eV and eV/Å, judged by what solids have, and which unit fits.

Three checks, none of which needs a model.

- **Lengths**: the nearest atoms are at about the sum of their covalent radii, 0.6 to 1.35 of it
  in every solid but those of noble gases.
- **Work**: between two similar frames of one cell the energy changes by the work of the mean
  force, ``E_b - E_a = -(F_a + F_b) . (r_b - r_a) / 2`` up to third order in the displacement.
  Energies in eV with forces in Hartree/Bohr, or lengths in another unit than that of the forces,
  give another factor than 1.
- **Stiffness**: the root mean squares of force differences and displacements have a ratio of 1 to
  20 eV/Å² in most solids, and the configurational temperature ``<F²> / (k_B <stiffness>)``
  (Rugh, Phys. Rev. Lett. 78, 772 (1997)) is that at which atoms move. All energies and forces in
  kcal/mol, say, leave the work right, and are seen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ionloop.geometry.neighbours import measurable
from ionloop.geometry.periodic import fractional, rms, without_drift
from ionloop.schemas.frames import Frames
from ionloop.schemas.packed import Array
from ionloop.selection.physical import nearest_pair

NEAREST = (0.6, 1.35)
"""Distance of the nearest atoms over the sum of their covalent radii, in any solid.

Cu 1.0, LGPS 0.95 (0.73 at the least at 1200 K), CsI 1.03, Li 1.19, Pb 1.20; in Bohr 1.4 to 2.3.
"""


STIFFNESS = (0.15, 100.0)
"""eV/Å², from caesium metal (0.2) to beyond diamond and bonds to hydrogen (60)."""


HOTTEST = 10_000.0
"""K: highest configurational temperature of a solid; LGPS at 1200 K has 1,000."""


NEAR = 0.2
"""Å: root mean square displacement up to which two frames are similar."""


FAR = 2.0
"""Å: up to here forces change enough to tell that their unit is too large, not too small."""


OTHER_CELL = 0.5
"""Å: difference of cells from which two frames are not compared; a tenth of it, for the work."""


BOLTZMANN = 8.617333e-5  # eV/K


DENSEST = 1.0
"""Å³ per atom; diamond has 5.7. In a denser cell an atom has too many images to go through."""


_SAMPLE = 60  # first frames, which are looked at: the next one is often the most similar

_FEW = 5  # pairs of frames that tell something

_AGREES = 0.95  # correlation of energy differences and work

_WORK = (0.5, 1.4)  # of 1: anharmonic forces do less work between two displaced frames

_NOBLE = {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}


_LENGTHS = {"Bohr": 0.529177, "nm": 10.0, "pm": 0.01}

_BOHR, _HARTREE, _KCAL, _KJ = 0.529177, 27.211386, 0.0433641, 0.0103643


class Units(NamedTuple):
    """Units of energies and forces, and how many eV and eV/Å they are."""

    words: str
    energy: float
    force: float


_UNITS = (
    Units("eV and eV/Å", 1.0, 1.0),
    Units("Hartree and Hartree/Bohr", _HARTREE, _HARTREE / _BOHR),
    Units("Rydberg and Rydberg/Bohr", _HARTREE / 2, _HARTREE / 2 / _BOHR),
    Units("kcal/mol and kcal/mol/Å", _KCAL, _KCAL),
    Units("kJ/mol and kJ/mol/Å", _KJ, _KJ),
    Units("eV and Hartree/Bohr", 1.0, _HARTREE / _BOHR),
    Units("eV and Rydberg/Bohr", 1.0, _HARTREE / 2 / _BOHR),
    Units("Hartree and eV/Å", _HARTREE, 1.0),
    Units("Hartree and Hartree/Å", _HARTREE, _HARTREE),
    Units("kcal/mol and eV/Å", _KCAL, 1.0),
    Units("eV and kcal/mol/Å", 1.0, _KCAL),
    Units("kJ/mol and kJ/mol/nm", _KJ, _KJ / 10),
)


def doubts(parts: Sequence[Frames]) -> list[str]:
    """Describe the other units in which the numbers of a data set seem to be.

    Parameters
    ----------
    parts
        Frames that are finite, labelled or not, of any compositions.

    Returns
    -------
    list of str
        A sentence for lengths and one for energies and forces; empty where nothing is doubtful or
        nothing can be told.
    """
    samples = [part[:_SAMPLE] for part in parts]
    # Whether forces are right cannot be told while lengths are wrong.
    found = [_length_doubt(sample) or _force_doubt(sample) for sample in samples]
    return list(dict.fromkeys(filter(None, found)))


def nearest_ratio(frames: Frames) -> float:
    """Return the distance of the nearest atoms over the sum of their covalent radii.

    Parameters
    ----------
    frames
        Finite frames.

    Returns
    -------
    float
        The median over the frames; NaN where nothing can be said: of noble gases and flat
        cells. The radii are those of Cordero et al. (2008), from ASE.
    """
    if set(frames.symbols) <= _NOBLE:
        return float("nan")
    # At a common density, since an atom in a tiny cell has too many images to go through.
    scales = np.cbrt(20.0 * frames.n_atoms / np.maximum(frames.volumes, 1e-9))[:, None, None]
    scaled = replace(frames, positions=frames.positions * scales, cells=frames.cells * scales)
    sound = np.flatnonzero(measurable(scaled))[::10]
    ratios = [nearest_pair(scaled[index])[3] / scales[index].item() for index in sound]
    return float(np.median(ratios)) if ratios else float("nan")


def _length_doubt(frames: Frames) -> str:
    ratio = nearest_ratio(frames)
    low, high = NEAREST
    if np.isnan(ratio) or low / 1.2 <= ratio <= high:
        return ""
    fits = [unit for unit, size in _LENGTHS.items() if low <= ratio * size <= high]
    if not fits and ratio > high:  # isolated atoms
        return ""
    guess = f"lengths are like {fits[0]}, not Å" if fits else "lengths can hardly be in Å"
    return (
        f"{guess}: the nearest atoms of {frames.formula} are at {ratio:.2g} times the sum "
        f"of their covalent radii ({low:g} to {high:g} in solids)"
    )


@dataclass(frozen=True)
class Response:
    """How energies and forces answer displacements, in the units of the data.

    Parameters
    ----------
    work
        Energy differences over the work of the forces; None where they do not agree.
    stiffness
        Median ratio of force differences and displacements.
    heat
        Mean square force over the stiffness: k_B times the configurational temperature. None,
        and the stiffness a lower bound, where no frames are similar.
    """

    work: float | None
    stiffness: float
    heat: float | None


def response(frames: Frames) -> Response | None:
    """Measure how energies and forces answer displacements between similar frames.

    Parameters
    ----------
    frames
        Labelled frames, finite, of one composition.

    Returns
    -------
    Response or None
        None where fewer than five frames can be compared with another.
    """
    assert frames.forces is not None and frames.energies is not None
    nearest, apart = _most_similar(frames)
    near = np.count_nonzero(apart <= NEAR) >= _FEW
    first = np.flatnonzero(apart <= (NEAR if near else FAR))
    if len(first) < _FEW:
        return None
    second = nearest[first]
    moves, forces = _moves(frames, first, second), frames.forces
    stiffness = float(np.median(rms(forces[second] - forces[first]) / rms(moves)))
    if not near or stiffness == 0:
        return Response(None, stiffness, None)
    heat = float(np.mean(forces[first] ** 2)) / stiffness
    strain = np.abs(frames.cells[first] - frames.cells[second]).max(axis=(1, 2))
    rigid = strain < OTHER_CELL / 10
    work = -((forces[first] + forces[second]) / 2 * moves).sum(axis=(1, 2))
    gained = frames.energies[second] - frames.energies[first]
    return Response(_slope(gained[rigid], work[rigid]), stiffness, heat)


def _most_similar(frames: Frames) -> tuple[Array, Array]:
    """Return for every frame the most similar other of its cell, and how far that is in Å, (f,)."""
    others = np.arange(len(frames))
    nearest, apart = np.zeros(len(frames), dtype=int), np.full(len(frames), np.inf)
    for index in others:
        size = rms(_moves(frames, np.full(len(frames), index), others))
        other_cell = np.abs(frames.cells - frames.cells[index]).max(axis=(1, 2)) > OTHER_CELL
        size[other_cell | (size == 0)] = np.inf
        nearest[index] = size.argmin()
        apart[index] = size[nearest[index]]
    return nearest, apart


def _moves(frames: Frames, first: Array, second: Array) -> Array:
    """Return the shortest displacements from first to second frames in Å, (p, n, 3)."""
    cells = frames.cells[first]
    steps = fractional(frames.positions[second] - frames.positions[first], cells)
    return without_drift(steps, cells)


def _slope(gained: Array, work: Array) -> float | None:
    if len(work) < _FEW or not work.any() or not gained.any():
        return None
    agreement = (gained @ work) / np.sqrt((gained @ gained) * (work @ work))
    return float(gained @ work / (work @ work)) if abs(agreement) > _AGREES else None


def _force_doubt(frames: Frames) -> str:
    if not frames.is_labelled or not measurable(frames).all():
        return ""
    found = response(frames)
    if found is None or found.stiffness == 0 or _fits(found, _UNITS[0]):
        return ""
    guess = _guess(found)
    return guess and (
        f"energies and forces of {frames.formula} {guess}, not eV and eV/Å: forces answer "
        f"displacements by {found.stiffness:.3g} (eV/Å²: {STIFFNESS[0]:g} to {STIFFNESS[1]:g} in "
        f"solids){_more(found)}"
    )


def _guess(found: Response) -> str:
    """Return what the numbers are like; "" where that is nothing known, and no reason to refuse."""
    if found.work is not None and found.work < 0:
        return "are energies and gradients, whose sign is the other one"
    fits = [units.words for units in _UNITS[1:] if _fits(found, units)]
    return f"are like {' or '.join(fits[:2])}" if fits else ""


def _more(found: Response) -> str:
    work = f", energies change by {found.work:.3g} times the forces' work" if found.work else ""
    if found.heat is None:
        return work
    return f" at a configurational temperature of {found.heat / BOLTZMANN:.0f} K{work}"


def _fits(found: Response, units: Units) -> bool:
    low, high = STIFFNESS
    if found.stiffness * units.force < low:
        return False
    if found.heat is None:
        return True
    ratio = (1.0 if found.work is None else found.work) * units.energy / units.force
    agrees = _WORK[0] <= ratio <= _WORK[1]
    cold = found.heat * units.force <= BOLTZMANN * HOTTEST
    return agrees and cold and found.stiffness * units.force <= high


def crowded(frames: Frames) -> Array:
    """Tell which cells hold more atoms than any solid, (f,): less than `DENSEST` for each."""
    volumes: Array = frames.volumes < DENSEST * frames.n_atoms
    return volumes


def impossible_energies(frames: Frames) -> Array:
    """Tell which energies no sum of atoms can have, (f,).

    The total energy of an atom, all its electrons counted, is about -20.9 Z^(7/3) eV in the
    Thomas-Fermi model, which overestimates it; twice that is the bound, of either sign.

    Parameters
    ----------
    frames
        f labelled frames.
    """
    from ase.data import atomic_numbers

    assert frames.energies is not None
    charges = np.array([atomic_numbers[symbol] for symbol in frames.symbols], dtype=float)
    bound = 2 * 20.9 * np.sum(charges ** (7 / 3))
    impossible: Array = np.abs(frames.energies) > bound
    return impossible
