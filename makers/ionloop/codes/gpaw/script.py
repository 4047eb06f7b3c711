"""Run by GPAW's own Python: answers the request.json of the current folder in answer.json.

ionloop copies this file beside the request and starts it with `mpirun … gpaw python`; it imports
nothing of ionloop, so that GPAW may live in an environment of its own.
"""

# mypy: ignore-errors
from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import gpaw
from ase import Atoms
from gpaw.mpi import world


def main() -> None:
    """Answer the request."""
    request = json.loads(Path("request.json").read_text())
    answer = {"version": gpaw.__version__, "setups_version": setups_version(), "ranks": world.size}
    if world.size == request["ranks"]:
        answer |= probe(request) if "elements" in request else calculate(request)
    if world.rank == 0:
        Path("answer.part").write_text(json.dumps(answer))
        Path("answer.part").rename("answer.json")


def setups_version() -> str:
    """Return the version of gpaw-data, or the name of the folder that the setups are in."""
    try:
        return metadata.version("gpaw-data")
    except metadata.PackageNotFoundError:
        return Path(gpaw.setup_paths[0]).name


def probe(request: dict) -> dict:
    """Look for the setup of every element."""
    found = {symbol: has_setup(symbol, request) for symbol in request["elements"]}
    return {"missing": [symbol for symbol, there in found.items() if not there]}


def has_setup(symbol: str, request: dict) -> bool:
    """Return whether GPAW finds the setup that it would use for an element.

    Parameters
    ----------
    symbol
        Chemical symbol of the element.
    request
        What is to be calculated: the functional under ``xc``, setups by symbol under ``setups``.
    """
    from gpaw.setup import create_setup

    try:
        create_setup(symbol, xc=request["xc"], type=request["setups"].get(symbol, "paw"))
    except (OSError, RuntimeError, KeyError):
        return False
    return True


def calculate(request: dict) -> dict:
    """Calculate energy (eV), forces (eV/Å) and stress (eV/Å³) of one frame."""
    from gpaw import GPAW, KohnShamConvergenceError

    atoms = Atoms(**request["atoms"], pbc=True)
    atoms.calc = GPAW(**request["parameters"], txt="gpaw.txt")
    try:
        forces = atoms.get_forces()
    except KohnShamConvergenceError:
        return {"converged": False}
    return {
        "converged": True,
        "energy": atoms.get_potential_energy(force_consistent=True),
        "forces": forces.tolist(),
        "stress": atoms.get_stress(voigt=False).tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.tolist(),
    }


main()
