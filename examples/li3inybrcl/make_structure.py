"""Build a start structure of Li3In0.5Y0.5Br3Cl3, one of the mixed halides Li3InxY1-xBr6yCl6-6y.

Lattice parameters as published for x = y = 0.5 (Y. Deng et al., supporting information of
"Accelerating the discovery of disordered multi-component solid-state electrolytes using machine
learning interatomic potentials", table S4: 6.665, 6.676, 11.418 Å, 109.9°), in the axes of C2/m.
Sites are those of Li3InCl6 as in ../li3incl6, from OBELiX (Therrien et al., CC-BY-4.0). In and Y
take one each of the two metal sites; of the twelve anion sites, six are drawn at random for Br.
20 atoms; the run file relaxes them.

To write the file again, run ``python make_structure.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.build import sort
from ase.io import write
from ase.spacegroup import crystal

CELL = [6.676, 11.418, 6.665, 90, 109.9, 90]  # Å, °
SITES = {
    "Li": [(0, 0.16808730, 0.5), (0, 0.5, 0.5)],
    "In": [(0, 0, 0)],
    "Cl": [(0.23555313, 0.15998188, 0.23126920), (0.24471525, 0, 0.76115753)],
}
SEED = 1


def main() -> None:
    """Write Li3InYBrCl.vasp beside this script."""
    symbols = [symbol for symbol, sites in SITES.items() for _ in sites]
    positions = [site for sites in SITES.values() for site in sites]
    atoms = crystal(symbols, positions, spacegroup=12, cellpar=CELL)
    metals = np.flatnonzero(atoms.symbols == "In")
    anions = np.flatnonzero(atoms.symbols == "Cl")
    atoms.symbols[metals[1:]] = "Y"
    atoms.symbols[np.random.default_rng(SEED).choice(anions, len(anions) // 2, replace=False)] = (
        "Br"
    )
    order = [["Li", "In", "Y", "Br", "Cl"].index(symbol) for symbol in atoms.symbols]
    path = Path(__file__).with_name("Li3InYBrCl.vasp")
    write(path, sort(atoms, tags=order), format="vasp", direct=True)


if __name__ == "__main__":
    main()
