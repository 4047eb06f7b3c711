"""Frames from and to ASE."""

# mypy: allow-untyped-calls
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.formats.errors import FrameFileError
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from ase import Atoms


# dpdata rotates the cell of a POSCAR; ASE leaves it as it is.
ASE_ALIASES = dict.fromkeys(("poscar", "contcar", "vasp/poscar", "vasp/contcar"), "vasp")

_VIRIAL_MATCH = 1e-6  # eV


def to_ase(frames: Frames) -> list[Atoms]:
    """Convert to ASE, one `Atoms` per frame.

    Labels are in a `SinglePointCalculator` (stress = -virial / volume, eV/Å³). The exact virial
    (eV), the level and the frame id are in ``info``, because a Voigt stress does not give the
    virial back to the last digit.
    """
    return [_to_atoms(frames, index) for index in range(len(frames))]


def _to_atoms(frames: Frames, index: int) -> Atoms:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    atoms = Atoms(
        symbols=list(frames.symbols),
        positions=frames.positions[index],
        cell=frames.cells[index],
        pbc=True,
        info={"frame_id": frames.ids[index]},
    )
    if frames.level is not None:
        atoms.info["level"] = frames.level
    if frames.energies is None or frames.forces is None:
        return atoms
    results: dict[str, Any] = {
        "energy": float(frames.energies[index]),
        "forces": frames.forces[index],
    }
    if frames.virials is not None:
        virial = frames.virials[index]
        results["stress"] = full_3x3_to_voigt_6_stress(-virial / atoms.get_volume())
        atoms.info["virial"] = virial.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def from_ase(images: Iterable[Atoms]) -> list[Frames]:
    """Convert from ASE, one `Frames` per composition in the order of appearance.

    The energy is the free energy where there is one, because forces are its derivative. Results of
    a calculator for other positions are ignored, and so is an energy without forces.

    Raises
    ------
    ValueError
        If an image has no three lattice vectors, or only some images of a composition are
        labelled.
    """
    return concatenate(_from_atoms(atoms) for atoms in images)


def _from_atoms(atoms: Atoms) -> Frames:
    if atoms.cell.rank < 3:
        formula = atoms.get_chemical_formula()
        raise InputError(f"{formula} has no three lattice vectors; give it a periodic cell")
    return Frames(
        symbols=chemical(atoms.get_chemical_symbols()),
        positions=np.array([atoms.positions]),
        cells=np.array([atoms.cell.array]),
        **_ase_label(atoms),
    )


def _ase_label(atoms: Atoms) -> dict[str, Any]:
    calculator = atoms.calc
    if calculator is None or calculator.check_state(atoms):
        return {}
    results = calculator.results
    energy = results.get("free_energy", results.get("energy"))
    if energy is None or "forces" not in results:
        return {}
    return label_of(energy, results["forces"], _ase_virial(atoms, results), atoms.info.get("level"))


def label_of(energy: float, forces: Any, virial: Any, level: str | None) -> dict[str, Any]:
    """Return the label of one frame as `Frames` takes it.

    Parameters
    ----------
    energy
        Energy in eV.
    forces
        Forces in eV/Å, (n, 3).
    virial
        Virial in eV, (3, 3), or None.
    level
        Hash of the level of theory, if it is known.

    Returns
    -------
    dict
        Arrays with one frame each, and the level.
    """
    return {
        "energies": np.array([energy]),
        "forces": np.array([forces]),
        "virials": None if virial is None else np.array([virial]),
        "level": level,
    }


def _ase_virial(atoms: Atoms, results: Mapping[str, Any]) -> Array | None:
    stated = atoms.info.get("virial")
    if "stress" not in results:
        return None if stated is None else np.reshape(stated, (3, 3))
    virial: Array = -atoms.get_volume() * full_stress(results["stress"])
    # A virial that contradicts the stress was left behind by an earlier calculation.
    if stated is not None and np.allclose((stated + stated.T) / 2, virial, atol=_VIRIAL_MATCH):
        return np.asarray(stated)
    return virial


def full_stress(stress: Array) -> Array:
    """Return ASE's stress (six Voigt components or (3, 3)), eV/Å³, as (3, 3)."""
    from ase.stress import voigt_6_to_full_3x3_stress

    if np.shape(stress) == (3, 3):
        return stress
    return np.asarray(voigt_6_to_full_3x3_stress(np.asarray(stress)))


def chemical(symbols: Iterable[str]) -> tuple[str, ...]:
    """Return the symbols as a tuple; raise `FrameFileError` if one is no chemical symbol."""
    from ase.data import chemical_symbols

    checked = tuple(symbols)
    unknown = sorted(set(checked) - set(chemical_symbols[1:]))
    if unknown:
        raise FrameFileError(
            f"{', '.join(unknown)} are no chemical symbols; where only type numbers are stored, "
            "give type_map, the symbols in their order"
        )
    return checked
