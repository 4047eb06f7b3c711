"""Build a start structure of α-AgI: iodine on a bcc lattice, silver on tetrahedral sites.

Im-3m, a = 5.06 Å at about 500 K, I on 2a, Ag spread over the 12d sites (1/4, 0, 1/2): two of
twelve are occupied (L. W. Strock, Z. Phys. Chem. B 25, 441 (1934); R. J. Cava, F. Reidinger and
B. J. Wuensch, Solid State Commun. 24, 411 (1977)). Of the 96 sites of a 2×2×2 cell, 16 are drawn
at random so that no two are nearer than √6/4 a = 3.1 Å, because neighbouring sites cannot both be
occupied.

To write the file again, run ``python make_structure.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from ase.spacegroup import crystal

A = 5.06  # Å
REPEAT = 2
SEED = 1


def main() -> None:
    """Write α-AgI.vasp beside this script."""
    iodine = crystal("I", [(0, 0, 0)], spacegroup=229, cellpar=[A, A, A, 90, 90, 90])
    sites = crystal("Ag", [(0.25, 0, 0.5)], spacegroup=229, cellpar=[A, A, A, 90, 90, 90])
    iodine, sites = iodine.repeat(REPEAT), sites.repeat(REPEAT)
    silver = sites[draw(sites, len(iodine), shortest=0.6 * A)]
    write(Path(__file__).with_name("AgI.vasp"), silver + iodine, format="vasp", direct=True)


def draw(sites: Atoms, n: int, shortest: float) -> list[int]:
    """Draw n sites that are all at least `shortest` (Å) apart; start again if no site is left."""
    distances = sites.get_all_distances(mic=True)
    random = np.random.default_rng(SEED)
    chosen: list[int] = []
    while len(chosen) < n:
        free = np.flatnonzero((distances[:, chosen] >= shortest).all(axis=1))
        chosen = [*chosen, int(random.choice(free))] if len(free) else []
    return sorted(chosen)


if __name__ == "__main__":
    main()
