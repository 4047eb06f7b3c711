"""The input file of CP2K."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import GAMMA, mesh_of
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from ionloop.codes.cp2k.settings import Cp2kSettings


def input_file(settings: Cp2kSettings, frame: Frames) -> str:
    """Return CP2K's input for energy, forces and stress of a frame.

    Parameters
    ----------
    settings
        Level of theory.
    frame
        Frames of one.
    """
    force_eval = {
        "METHOD": "Quickstep",
        "STRESS_TENSOR": "ANALYTICAL",
        "&PRINT": {"&FORCES": {}, "&STRESS_TENSOR": {}},
        "&DFT": _dft(settings, frame),
        "&SUBSYS": _subsys(settings, frame),
    }
    run = {"PROJECT": "label", "RUN_TYPE": "ENERGY_FORCE", "PRINT_LEVEL": "MEDIUM"}
    return "\n".join(_lines({"&GLOBAL": run, "&FORCE_EVAL": force_eval})) + "\n"


def _dft(settings: Cp2kSettings, frame: Frames) -> dict[str, Any]:
    grid = mesh_of(settings.kpoints, frame)
    quickstep: dict[str, Any] = {"EPS_DEFAULT": settings.precision}
    if grid == GAMMA:
        quickstep["EXTRAPOLATION"] = "USE_GUESS"
    dft: dict[str, Any] = {
        "BASIS_SET_FILE_NAME": list(settings.basis_files),
        "POTENTIAL_FILE_NAME": settings.potential_file,
        "&MGRID": {"CUTOFF": settings.cutoff, "REL_CUTOFF": settings.relative_cutoff},
        "&QS": quickstep,
        "&SCF": _scf(settings, direct=grid == GAMMA and settings.smearing == 0),
        "&XC": {f"&XC_FUNCTIONAL {settings.xc}": {}},
    }
    if settings.spin_polarised:
        dft["UKS"] = ".TRUE."
        dft["MULTIPLICITY"] = settings.multiplicity
    if grid != GAMMA:
        dft["&KPOINTS"] = {"SCHEME": _scheme(grid), "FULL_GRID": ".TRUE."}
    return dft


def _scheme(grid: tuple[int, int, int]) -> str:
    # MacDonald's grid is Monkhorst-Pack's, which misses Γ where the number is even, plus a shift.
    shifts = [0 if n % 2 else 1 / (2 * n) for n in grid]
    return " ".join(["MACDONALD", *map(str, grid), *(f"{shift:.10g}" for shift in shifts)])


def _scf(settings: Cp2kSettings, *, direct: bool) -> dict[str, Any]:
    """Return the section SCF: orbital transformation if `direct`, else diagonalisation."""
    common = {"SCF_GUESS": "ATOMIC", "EPS_SCF": settings.scf_convergence}
    if direct:
        inner = min(20, settings.max_scf_steps)
        return {
            **common,
            "MAX_SCF": inner,
            "&OT": {"MINIMIZER": "DIIS", "PRECONDITIONER": "FULL_ALL"},
            "&OUTER_SCF": {
                "EPS_SCF": settings.scf_convergence,
                "MAX_SCF": -(-settings.max_scf_steps // inner) - 1,
            },
        }
    scf = {
        **common,
        "MAX_SCF": settings.max_scf_steps,
        "ADDED_MOS": settings.empty_orbitals,
        "&DIAGONALIZATION": {"ALGORITHM": "STANDARD"},
        "&MIXING": {"METHOD": "BROYDEN_MIXING", "ALPHA": 0.2},
    }
    if settings.smearing:
        kelvin = settings.smearing / 8.617333262e-5
        scf["&SMEAR"] = {"METHOD": "FERMI_DIRAC", "ELECTRONIC_TEMPERATURE": f"{kelvin:.8g}"}
    return scf


def _subsys(settings: Cp2kSettings, frame: Frames) -> dict[str, Any]:
    kinds = {symbol: settings.basis_and_potential(symbol) for symbol in frame.species}
    vectors = zip("ABC", frame.cells[0], strict=True)
    atoms = zip(frame.symbols, frame.positions[0], strict=True)
    return {
        "&CELL": {name: _row(vector) for name, vector in vectors},
        "&COORD": {"": [f"{symbol} {_row(place)}" for symbol, place in atoms]},
        **{
            f"&KIND {symbol}": {"BASIS_SET": basis, "POTENTIAL": potential}
            for symbol, (basis, potential) in kinds.items()
        },
    }


def _row(vector: Array) -> str:
    return " ".join(f"{x:.12f}" for x in vector)


def _lines(section: Mapping[str, Any], indent: str = "") -> list[str]:
    """Return the lines of a section; a list gives its keyword once for every value."""
    lines = []
    for key, value in section.items():
        if key.startswith("&"):
            inner = _lines(value, indent + "  ")
            lines += [f"{indent}{key}", *inner, f"{indent}&END {key[1:].split()[0]}"]
        else:
            values = value if isinstance(value, list) else [value]
            lines += [f"{indent}{key} {each}".rstrip() for each in values]
    return lines
