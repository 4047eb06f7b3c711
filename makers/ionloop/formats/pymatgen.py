"""Frames from and to pymatgen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.formats.ase import chemical, label_of
from ionloop.formats.errors import FrameFileError
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure


_POSITION_MATCH = 1e-8  # Å: far above round-off, far below any intended displacement


def to_pymatgen(frames: Frames) -> list[Structure]:
    """Convert to pymatgen, one `Structure` per frame.

    pymatgen keeps fractional coordinates, so the exact Cartesian ones (Å) travel as the site
    property ``positions``; forces (eV/Å) are the site property ``forces``, and energy (eV),
    virial (eV) and level are in ``properties``.
    """
    return [_to_structure(frames, index) for index in range(len(frames))]


def _to_structure(frames: Frames, index: int) -> Structure:
    from pymatgen.core.lattice import Lattice
    from pymatgen.core.structure import Structure

    sites = {"positions": frames.positions[index].tolist()}
    properties: dict[str, Any] = {} if frames.level is None else {"level": frames.level}
    if frames.energies is not None and frames.forces is not None:
        sites["forces"] = frames.forces[index].tolist()
        properties["energy"] = float(frames.energies[index])
    if frames.virials is not None:
        properties["virial"] = frames.virials[index].tolist()
    return Structure(
        Lattice(frames.cells[index]),
        frames.symbols,
        frames.positions[index],
        coords_are_cartesian=True,
        site_properties=sites,
        properties=properties,
    )


def from_pymatgen(structures: Iterable[Structure]) -> list[Frames]:
    """Convert from pymatgen, one `Frames` per composition in the order of appearance.

    Raises
    ------
    ValueError
        If a structure is disordered.
    """
    return concatenate(_from_structure(structure) for structure in structures)


def _from_structure(structure: Structure) -> Frames:
    if not structure.is_ordered:
        partial = [site for site in structure if not site.is_ordered]
        examples = ", ".join(dict.fromkeys(site.species_string for site in partial[:20]))
        raise FrameFileError(
            f"{len(partial)} of {len(structure)} sites are partly occupied ({examples}); choose "
            "an ordered configuration first, for example with pymatgen's "
            "OrderDisorderedStructureTransformation"
        )
    return Frames(
        symbols=chemical(site.specie.symbol for site in structure),
        positions=np.array([_exact_positions(structure)]),
        cells=np.array([structure.lattice.matrix]),
        **_pymatgen_label(structure),
    )


def _exact_positions(structure: Structure) -> Array:
    # The property counts only while it agrees with the sites, which may have been moved since.
    cartesian: Array = structure.cart_coords
    stated = structure.site_properties.get("positions")
    if stated is None or any(row is None for row in stated):
        return cartesian
    exact = np.array(stated, dtype=float)
    return exact if np.allclose(exact, cartesian, rtol=0, atol=_POSITION_MATCH) else cartesian


def _pymatgen_label(structure: Structure) -> dict[str, Any]:
    forces = structure.site_properties.get("forces")
    energy = structure.properties.get("energy")
    if forces is None or energy is None:
        return {}
    virial, level = structure.properties.get("virial"), structure.properties.get("level")
    return label_of(energy, forces, virial, level)
