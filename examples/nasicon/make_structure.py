"""Build an ordered start structure of Na3Zr2Si2PO12 (NaSICON) in the rhombohedral cell of 40 atoms.

The metric is that of the monoclinic cell (C2/c; a = 15.586, b = 9.029, c = 9.205 Å, β = 123.70°;
H. Y.-P. Hong, Mater. Res. Bull. 11, 173 (1976)) as a hexagonal one of equal volume, which R-3c has
above the transition near 420 K. The framework is that of NaZr2(PO4)3 (L.-O. Hagman and
P. Kierkegaard, Acta Chem. Scand. 22, 1822 (1968)), with Na on 6b and 18e. Of eight Na sites six are
filled, and of six tetrahedra four hold Si: the arrangement of the lowest Ewald energy with formal
charges. The run file relaxes it.

To write the file again, run ``python make_structure.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.io import write
from ase.spacegroup import crystal
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.transformations.standard_transformations import (
    OrderDisorderedStructureTransformation,
)

A, B, C, BETA = 15.586, 9.029, 9.205, 123.70  # Å, °
SITES = {
    "Na": [(0, 0, 0), (0.64, 0, 0.25)],
    "Zr": [(0, 0, 0.1456)],
    "P": [(0.2909, 0, 0.25)],
    "O": [(0.1859, -0.0145, 0.1946), (0.1914, 0.1684, 0.0866)],
}
OCCUPIED = {
    "Na": {"Na+": 6 / 8},
    "Zr": {"Zr4+": 1},
    "P": {"Si4+": 4 / 6, "P5+": 2 / 6},
    "O": {"O2-": 1},
}


def disordered() -> Structure:
    """Return the rhombohedral cell with partly occupied sites."""
    a = (A / np.sqrt(3) + B) / 2
    volume = A * B * C * np.sin(np.radians(BETA)) / 4  # of one formula unit
    c = 6 * volume / (a**2 * np.sqrt(3) / 2)
    symbols = [symbol for symbol, sites in SITES.items() for _ in sites]
    positions = [site for sites in SITES.values() for site in sites]
    cell = [a, a, c, 90, 90, 120]
    atoms = crystal(symbols, positions, spacegroup=167, cellpar=cell, primitive_cell=True)
    species = [OCCUPIED[symbol] for symbol in atoms.get_chemical_symbols()]
    return Structure(atoms.cell.array, species, atoms.get_scaled_positions())


def main() -> None:
    """Write Na3Zr2Si2PO12.vasp beside this script."""
    ordered = OrderDisorderedStructureTransformation().apply_transformation(disordered())
    ordered.remove_oxidation_states()
    atoms = AseAtomsAdaptor.get_atoms(ordered.get_sorted_structure())
    path = Path(__file__).with_name("Na3Zr2Si2PO12.vasp")
    write(path, atoms, format="vasp", direct=True)


if __name__ == "__main__":
    main()
