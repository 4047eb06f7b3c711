"""What a VASP run left in its folder: results, or why there is none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.common.acceptance import Calculated
from ionloop.formats.pymatgen import from_pymatgen
from ionloop.programs.log import log_text
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from pymatgen.io.vasp.outputs import Vasprun


KBAR = 1602.176634  # kB in one eV/Å³

LAST_LINES = 2
"""Lines of each output file that an error message quotes."""


class VaspError(IonloopError, RuntimeError):
    """A VASP run ended without a result."""


def read_results(folder: Path) -> list[Calculated]:
    """Read every ionic step of a finished run, atoms in the order of the POSCAR.

    Parameters
    ----------
    folder
        Where vasprun.xml is, gzipped or not.

    Raises
    ------
    VaspError
        If it is missing, cut short, or holds no ionic step.
    """
    vasprun = read_vasprun(folder)
    limit = vasprun.parameters["NELM"]
    return [_result(step, limit) for step in vasprun.ionic_steps]


def _result(step: Mapping[str, Any], limit: int) -> Calculated:
    structure = step["structure"]
    stress = step.get("stress")
    return Calculated(
        energy=float(step["e_fr_energy"]),
        forces=np.array(step["forces"], dtype=float),
        virial=None if stress is None else np.array(stress) * structure.volume / KBAR,
        positions=structure.cart_coords,
        cell=structure.lattice.matrix.copy(),
        # A run that used its last electronic step counts as not converged.
        converged=len(step["electronic_steps"]) < limit,
    )


def check_ended(folder: Path) -> None:
    """Check that VASP ended by itself, whatever files it wrote.

    Raises
    ------
    VaspError
        If OUTCAR, gzipped or not, is missing or lacks the timings that VASP writes at the end.
    """
    from monty.io import zopen

    path = file_of(folder, "OUTCAR")
    if not path.exists():
        raise VaspError(f"VASP wrote no {path}")
    with zopen(path, mode="rt", encoding="utf-8", errors="replace") as file:
        if not any("General timing and accounting" in str(line) for line in file):
            raise VaspError(f"{path} is cut short: VASP was ended, or the disk is full")


def read_final_frame(folder: Path) -> Frames:
    """Read the last structure of a relaxation, atoms in the order of the POSCAR.

    Raises
    ------
    VaspError
        If vasprun.xml cannot be read, or the relaxation did not converge.
    """
    vasprun = read_vasprun(folder)
    if not vasprun.converged:
        what = "ionic" if vasprun.converged_electronic else "electronic"
        raise VaspError(f"the relaxation in {folder} did not converge ({what} steps)")
    (frame,) = from_pymatgen([vasprun.final_structure])
    return frame.unlabelled()


def is_unconverged(folder: Path) -> bool:
    """Return whether a run wrote a complete vasprun.xml but did not converge electronically."""
    try:
        return not all(result.converged for result in read_results(folder))
    except VaspError:
        return False


def read_vasprun(folder: Path) -> Vasprun:
    """Read vasprun.xml, gzipped or not.

    Raises
    ------
    VaspError
        If it is missing or cannot be read.
    """
    from pymatgen.io.vasp.outputs import Vasprun

    path = file_of(folder, "vasprun.xml")
    try:
        with warnings.catch_warnings(action="ignore"):  # we judge convergence and overflows
            return Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False)
    except FileNotFoundError as problem:
        raise VaspError(f"VASP wrote no {path}") from problem
    except (SyntaxError, LookupError, ValueError, AttributeError) as problem:
        raise VaspError(f"{path} cannot be read, it may be cut short: {problem}") from problem


def file_of(folder: Path, name: str) -> Path:
    """Return the path of a file of a run, gzipped or not.

    Parameters
    ----------
    folder
        Folder of the run.
    name
        Name of the file that is not gzipped.
    """
    from monty.os.path import zpath

    return Path(zpath(folder / name))


def corrections(folder: Path) -> list[str]:
    """Return what custodian corrected in a folder, one phrase per correction.

    Parameters
    ----------
    folder
        Where custodian.json is, gzipped or not; without one there were no corrections.
    """
    from monty.serialization import loadfn

    path = file_of(folder, "custodian.json")
    if not path.exists():
        return []
    found = []
    for entry in (entry for job in loadfn(path, cls=None) for entry in job["corrections"]):
        actions = ", ".join(map(_action, entry["actions"] or []))
        found.append(f"{', '.join(entry['errors'])} → {actions or 'nothing'}")
    return found


def _action(action: Mapping[str, Any]) -> str:
    target = action.get("dict") or action.get("file") or "?"
    changes = action["action"].get("_set", action["action"])
    return f"{target} {', '.join(f'{key} = {value}' for key, value in changes.items())}"


def crash_message(problem: BaseException, folder: Path) -> str:
    """Say why a run gave no result.

    Parameters
    ----------
    problem
        The error of custodian.
    folder
        Folder of the run, with custodian's log and VASP's output.
    """
    cures = "; ".join(corrections(folder)) or "none"
    last = " / ".join(
        line.strip()
        for name in ("vasp.out", "std_err.txt")
        for line in log_text(folder / name).splitlines()[-LAST_LINES:]
        if line.strip()
    )
    return f"{problem}; custodian's corrections: {cures}; VASP's last output: {last or 'nothing'}"
