"""Build an ordered start structure of Li3InCl6 from the published one, which is disordered.

C2/m, cell and sites of the entry in OBELiX (Therrien et al., CC-BY-4.0), where In is spread over
2a (0, 0, 0) with 0.875 and 4g with 0.07. Here In fills 2a: Li6In2Cl12, 20 atoms.

To write the file again, run ``python make_structure.py``.
"""

from __future__ import annotations

from pathlib import Path

from ase.io import write
from ase.spacegroup import crystal

CELL = [6.432, 11.093, 6.398, 90, 109.8, 90]  # Å, °
SITES = {
    "Li": [(0, 0.16808730, 0.5), (0, 0.5, 0.5)],
    "In": [(0, 0, 0)],
    "Cl": [(0.23555313, 0.15998188, 0.23126920), (0.24471525, 0, 0.76115753)],
}


def main() -> None:
    """Write Li3InCl6.vasp beside this script."""
    symbols = [symbol for symbol, sites in SITES.items() for _ in sites]
    positions = [site for sites in SITES.values() for site in sites]
    atoms = crystal(symbols, positions, spacegroup=12, cellpar=CELL)
    write(Path(__file__).with_name("Li3InCl6.vasp"), atoms, format="vasp", direct=True)


if __name__ == "__main__":
    main()
