#!/usr/bin/env python
"""A stand-in for VASP, for tests: the same files in and out, other physics.

Reads POSCAR, INCAR, KPOINTS and POTCAR as VASP does (the elements are those of the POTCAR),
computes with effective medium theory or a Lennard-Jones potential, and writes OUTCAR,
vasprun.xml, OSZICAR and CONTCAR that pymatgen, custodian, atomate2, ASE and dpdata parse.
Energies without entropy and extrapolated to σ → 0 differ from the free energy by 0.02 and
0.01 eV, so that a test sees which one was taken.

It misbehaves on request: the file named by STAND_IN_VASP holds JSON that maps the name of the
working folder, or "*", to one of `MISDEEDS`. Every start appends the folder's
name and its process id to STAND_IN_LOG.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vasp_outputs as outputs
from ase import Atoms, units

MISDEEDS = (
    "nelm",  # never converges
    "stubborn",  # converges with ALGO = All only
    "edddav",  # crashes with an error that custodian cures by ALGO = All
    "tet",  # crashes with an error that custodian cures by another smearing
    "incurable",  # crashes with a known error, whatever custodian does
    "hang",  # starts, writes a line, and sleeps
    "cut-outcar",  # ends well, but OUTCAR is cut short
    "cut-vasprun",  # ends well, but vasprun.xml is cut short
    "exit",  # ends with everything written and exit status 3
    "die",  # is killed in the middle
    "full",  # finds no space left on the disk
    "moved",  # calculates other positions
    "nan",  # writes forces that are no numbers
    "overflow",  # writes forces as asterisks
)
DEFAULTS = {
    "PREC": "Normal", "ENCUT": 400.0, "EDIFF": 1e-4, "NELM": 60, "NELMIN": 2, "ISMEAR": 1,
    "SIGMA": 0.2, "ISPIN": 1, "ALGO": "Normal", "NSW": 0, "IBRION": -1, "ISIF": 2, "POTIM": 0.5,
    "TEBEG": 0.0, "EDIFFG": 1e-3, "ISYM": 2, "LORBIT": 0, "LREAL": False, "LASPH": False,
    "GGA": "PE", "KSPACING": 0.5, "KGAMMA": True,
}  # fmt: skip
GPA_PER_EV_A3 = 1 / units.GPa
COHESION = 4.0  # eV/atom below the calculator's zero


@dataclass(frozen=True)
class Step:
    """One ionic step: positions, cell, free energy in eV, forces in eV/Å, stress in kB."""

    positions: np.ndarray
    cell: np.ndarray
    energy: float
    forces: np.ndarray
    stress: np.ndarray


def main() -> None:
    """Read, compute, write."""
    misdeed = asked_misdeed()
    say(" vasp.6.4.3-standin (build for tests) complex")
    incar = {**DEFAULTS, **(given := read_incar(Path("INCAR")))}
    atoms, types = read_atoms()
    crash(misdeed, incar)
    if misdeed == "moved":
        atoms.positions[0] += 0.05
    steps = run(atoms, incar)
    if misdeed in ("nan", "overflow"):
        steps[-1].forces[0, 0] = np.nan
    converges = misdeed != "nelm" and not (misdeed == "stubborn" and incar["ALGO"] != "All")
    n_electronic = 7 if converges else int(incar["NELM"])
    run_data = outputs.Run(given, incar, read_mesh(incar, atoms), types, atoms, steps, n_electronic)
    write(run_data, misdeed)
    say(" writing wavefunctions")
    if misdeed == "exit":
        sys.exit(3)


def asked_misdeed() -> str:
    """Return what this run is asked to do wrong, and note that it started."""
    name = Path.cwd().name
    if log := os.environ.get("STAND_IN_LOG"):
        with Path(log).open("a") as file:
            file.write(f"{name} {os.getpid()}\n")
    plan = os.environ.get("STAND_IN_VASP")
    asked = json.loads(Path(plan).read_text()) if plan else {}
    misdeed = asked.get(name, asked.get("*", ""))
    if misdeed and misdeed not in MISDEEDS:
        sys.exit(f"the stand-in knows no misdeed {misdeed!r}")
    return misdeed


def say(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def crash(misdeed: str, incar: dict[str, Any]) -> None:
    """End, or never end, the way that was asked for."""
    if misdeed == "hang":
        time.sleep(600)
    if misdeed == "die":
        say(" DAV:   1     0.1E+03")
        os.kill(os.getpid(), signal.SIGKILL)
    if misdeed == "edddav" and incar["ALGO"] != "All":
        stop(" Error EDDDAV: Call to ZHEGV failed. Returncode =  10 1   8")
    if misdeed == "tet" and incar["ISMEAR"] != 0:
        stop(" Tetrahedron method fails (number of k-points < 4)")
    if misdeed == "incurable":
        stop(" internal error in SET_CORE_WF")


def stop(message: str) -> None:
    """Say an error of VASP and end."""
    say(message)
    sys.exit(1)


def read_incar(path: Path) -> dict[str, Any]:
    """Read the tags, typed."""
    lines = [line.split("#")[0].split("!")[0] for line in path.read_text().splitlines()]
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {tag.strip().upper(): typed(value.strip()) for tag, value in pairs}


def typed(word: str) -> Any:
    """Return the value that a word of INCAR stands for."""
    if word.strip(".").upper() in ("TRUE", "T", "FALSE", "F"):
        return word.strip(".").upper().startswith("T")
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def read_atoms() -> tuple[Atoms, list[outputs.Type]]:
    """Read POSCAR and POTCAR; the elements are the POTCAR's, as in VASP."""
    lines = Path("POSCAR").read_text().splitlines()
    cell = float(lines[1]) * np.array([line.split()[:3] for line in lines[2:5]], dtype=float)
    if np.linalg.det(cell) < 0:
        stop(" ERROR: the triple product of the basis vectors is negative, exchange two")
    counts = [int(word) for word in lines[6].split()]
    rows = np.array([line.split()[:3] for line in lines[8 : 8 + sum(counts)]], dtype=float)
    types = read_types(counts)
    symbols = [kind.element for kind in types for _ in range(kind.count)]
    direct = lines[7].strip().lower().startswith("d")
    where = {"scaled_positions": rows} if direct else {"positions": rows}
    return Atoms(symbols, cell=cell, pbc=True, **where), types


def read_types(counts: list[int]) -> list[outputs.Type]:
    """Read the headers of the POTCAR."""
    text = Path("POTCAR").read_text()
    titles = [line.split("=")[1].strip() for line in text.splitlines() if "TITEL" in line]
    valences = [
        float(line.split("=")[2].split()[0]) for line in text.splitlines() if "ZVAL" in line
    ]
    if len(titles) != len(counts):
        stop(" ERROR: number of potentials on File POTCAR incompatible with number of species")
    return [
        outputs.Type(title, title.split()[1].split("_")[0], count, valence)
        for title, count, valence in zip(titles, counts, valences, strict=True)
    ]


def read_mesh(incar: dict[str, Any], atoms: Atoms) -> tuple[int, ...]:
    """Return the divisions of KPOINTS or, without one, of KSPACING."""
    path = Path("KPOINTS")
    if path.exists():
        return tuple(int(word) for word in path.read_text().splitlines()[3].split()[:3])
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    return tuple(max(1, int(np.ceil(length / incar["KSPACING"]))) for length in lengths)


def calculator(atoms: Atoms) -> Any:
    """Return effective medium theory for its metals, Lennard-Jones for everything else."""
    from ase.calculators.emt import EMT, parameters
    from ase.calculators.lj import LennardJones

    if set(atoms.get_chemical_symbols()) <= set(parameters):
        return EMT()
    return LennardJones(sigma=2.1, epsilon=0.3, rc=5.0, smooth=True)


def run(atoms: Atoms, incar: dict[str, Any]) -> list[Step]:
    """Compute one step, molecular dynamics, or a relaxation."""
    atoms.calc = calculator(atoms)
    if incar["NSW"] == 0:
        return [step_of(atoms)]
    return dynamics(atoms, incar) if incar["IBRION"] == 0 else relaxation(atoms, incar)


def dynamics(atoms: Atoms, incar: dict[str, Any]) -> list[Step]:
    """Run molecular dynamics."""
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.md.verlet import VelocityVerlet

    steps = []
    random = np.random.default_rng(1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=incar["TEBEG"], rng=random)
    driver = VelocityVerlet(atoms, timestep=incar["POTIM"] * units.fs)
    for _ in range(incar["NSW"]):
        steps.append(step_of(atoms))
        driver.run(1)
    return steps


def relaxation(atoms: Atoms, incar: dict[str, Any]) -> list[Step]:
    """Relax positions and, with ISIF = 3, the cell."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import BFGS

    steps: list[Step] = []
    driver = BFGS(FrechetCellFilter(atoms) if incar["ISIF"] == 3 else atoms, logfile=None)  # type: ignore[arg-type]
    driver.attach(lambda: steps.append(step_of(atoms)))
    driver.run(fmax=abs(incar["EDIFFG"]), steps=incar["NSW"] - 1)
    return steps


def step_of(atoms: Atoms) -> Step:
    """Return the current step; VASP's stress is positive where the cell wants to expand."""
    return Step(
        atoms.positions.copy(),
        atoms.cell.array.copy(),
        float(atoms.get_potential_energy()) - COHESION * len(atoms),
        atoms.get_forces().copy(),
        -10 * GPA_PER_EV_A3 * atoms.get_stress(voigt=False),
    )


def write(run_data: outputs.Run, misdeed: str) -> None:
    """Write the files of a run, or fewer."""
    outcar, vasprun = outputs.outcar(run_data), outputs.vasprun(run_data)
    if misdeed == "overflow":
        outcar, vasprun = (text.replace("nan", "***") for text in (outcar, vasprun))
    if misdeed == "cut-outcar":
        outcar = outcar[: len(outcar) // 4]
    if misdeed == "cut-vasprun":
        vasprun = vasprun[: 2 * len(vasprun) // 3]
    Path("OSZICAR").write_text(outputs.oszicar(run_data))
    Path("CONTCAR").write_text(outputs.contcar(run_data))
    Path("vasprun.xml").write_text(vasprun)
    try:
        Path("/dev/full" if misdeed == "full" else "OUTCAR").write_text(outcar)
    except OSError as problem:
        stop(f"forrtl: {problem.strerror}\nforrtl: severe (38): error during write, unit 8")


if __name__ == "__main__":
    main()
