"""Labels from CP2K (Quickstep, Gaussians and plane waves), run as an outside program."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from ionloop.codes.acceptance import Calculated
from ionloop.codes.dft import DftSettings, as_calculator, check_version, unconverged
from ionloop.codes.program import Command, ProgramError, arguments, last_lines, run_program
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import GAMMA, explicit, mesh_of, words
from ionloop.schemas.label import LevelOfTheory
from ionloop.schemas.packed import Array

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

INPUT, OUTPUT = "cp2k.inp", "cp2k.out"
CURE = "install CP2K (docker/install-cp2k.sh, docs/dft.md) or set label.command to where it is"
PROBE_SECONDS = 120.0

# CP2K's own constants (CODATA 2006 in version 2023.1; the difference to newer ones is 1e-8).
HARTREE = 27.21138386  # eV
BOHR = 0.52917720859  # Å
GPA = 1 / 160.21764874  # eV/Å³
PRESSURES = {"GPa": GPA, "kbar": GPA / 10, "bar": GPA / 10_000}

_NUMBER = r"[-+]?\d+\.\d+(?:[ED][-+]?\d+)?"
_THREE = rf"({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})"
_ENERGY = re.compile(rf"ENERGY\| Total FORCE_EVAL.*?({_NUMBER})\s*$", re.MULTILINE)
# Up to 2024: atom, kind, element, three forces. From 2025 on: atom, three forces, their norm.
_FORCES = re.compile(
    r"ATOMIC FORCES in \[a\.u\.\].*?SUM OF ATOMIC FORCES"
    r"|FORCES\| Atomic forces \[hartree/bohr\].*?FORCES\| Sum",
    re.DOTALL,
)
_FORCE = re.compile(
    rf"^\s*(?:\d+\s+\d+\s+\S+\s+{_THREE}|FORCES\|\s+\d+\s+{_THREE}\s+{_NUMBER})\s*$", re.M
)
_STRESS = re.compile(
    r"STRESS\| Analytical stress tensor \[(\w+)\]\s*\n\s*STRESS\|\s+x\s+y\s+z\s*\n(.*?)1/3",
    re.DOTALL,
)
_ROW = re.compile(rf"STRESS\|\s+[xyz]\s+{_THREE}")
_VERSION = re.compile(r"CP2K version (\S+)")
_DATA = re.compile(r'__DATA_DIR="([^"]+)"')
_RANKS = re.compile(r"Total number of message passing processes\s+(\d+)")
_UNCONVERGED = re.compile(r"SCF run NOT converged|outer SCF loop FAILED to converge")


class Kind(Model):
    """Basis set and pseudopotential of an element, where they are not the common ones."""

    basis: str | None = Field(None, description="basis set; none: that of all")
    potential: str | None = Field(None, description="pseudopotential; none: that of all")


class Cp2kSettings(DftSettings):
    """CP2K with Gaussians and plane waves as a labeller."""

    program: ClassVar[str] = "cp2k"

    command: Command = Field(
        "mpirun.openmpi -np {cores} cp2k.psmp",
        description="what starts CP2K, {cores} standing for the MPI ranks; the mpirun must be "
        "that of the MPI that CP2K was built with",
    )
    version: str = Field(
        "2023.1", description="CP2K's version as far as labels depend on it; another one is refused"
    )
    basis: str = Field("DZVP-MOLOPT-SR-GTH", description="basis set of every element")
    potential: str = Field("GTH-PBE", description="pseudopotential of every element")
    kinds: dict[str, Kind] = Field(
        default_factory=dict, description="basis set and pseudopotential by chemical symbol"
    )
    basis_files: list[str] = Field(
        default_factory=lambda: ["BASIS_MOLOPT"],
        description="files of the basis sets: names in CP2K's data folder, or full paths",
    )
    potential_file: str = Field(
        "GTH_POTENTIALS", description="file of the pseudopotentials, likewise"
    )
    cutoff: Annotated[float, Field(gt=0)] = Field(
        800.0, description="plane-wave cut-off in Ry", json_schema_extra={"unit": "Ry"}
    )
    relative_cutoff: Annotated[float, Field(gt=0)] = Field(
        60.0,
        description="cut-off for a Gaussian of exponent 1 in Ry",
        json_schema_extra={"unit": "Ry"},
    )
    smearing: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Fermi-Dirac width in eV; 0 for fixed occupations by orbital transformation",
        json_schema_extra={"unit": "eV"},
    )
    empty_orbitals: PositiveInt = Field(
        20, description="orbitals above the occupied ones, with smearing or k-points"
    )
    scf_convergence: Annotated[float, Field(gt=0)] = Field(
        1e-6, description="EPS_SCF: largest error of the electronic gradient"
    )
    precision: Annotated[float, Field(gt=0)] = Field(
        1e-10, description="EPS_DEFAULT: precision of the matrix elements"
    )
    multiplicity: NonNegativeInt = Field(
        0, description="2S+1, with spin_polarised; 0: the lowest possible"
    )

    def ase_calculator(self, folder: Path, cores: int) -> Calculator:
        """Return an ASE calculator that starts CP2K in `folder` on so many MPI ranks."""
        return as_calculator(partial(calculate, self, folder=folder, cores=cores))


def level_of_theory(settings: Cp2kSettings) -> LevelOfTheory:
    """Describe everything that decides a label's value, without starting CP2K.

    Files of CP2K's own data folder count by their names: their content goes with the version.
    Files that are named by a path count by what they hold of each element, wherever they lie.
    Versions before had neither in their keys, so their labels are of no level that can be proved.

    Raises
    ------
    FileNotFoundError
        If a file that is named by its path is not there.
    """
    diagonalises = settings.smearing > 0 or explicit(settings.kpoints) != GAMMA
    own = [name for name in settings.basis_files if not _is_path(name)]
    about: dict[str, Any] = {
        "version": settings.version,
        "xc": settings.xc,
        "basis": settings.basis,
        "basis files": own,
        "pseudopotentials": settings.potential,
        "cut-off": f"{settings.cutoff:g} and {settings.relative_cutoff:g} Ry",
        "k-points": words(settings.kpoints),
        "spin": _spin(settings),
        "smearing": f"{settings.smearing:g} eV",
        "convergence": f"{settings.scf_convergence:g}, precision {settings.precision:g}",
    }
    if not _is_path(settings.potential_file):
        about["potential file"] = settings.potential_file
    if diagonalises:
        about["empty orbitals"] = settings.empty_orbitals
    return LevelOfTheory(
        code="cp2k",
        settings=about,
        elements=_by_element(settings),
        start_cells=settings.start_cells,
    )


def _by_element(settings: Cp2kSettings) -> dict[str, dict[str, str]]:
    """Return, by symbol, basis set and potential that are not the common ones, and contents."""
    common = (settings.basis, settings.potential)
    about: dict[str, dict[str, str]] = {}
    for symbol in settings.kinds:
        basis, potential = _kind(settings, symbol)
        if (basis, potential) != common:
            about[symbol] = {"basis": basis, "potential": potential}
    for name in filter(_is_path, (*settings.basis_files, settings.potential_file)):
        for (symbol, entry), content in _entries(Path(name)).items():
            if entry in _kind(settings, symbol):
                about.setdefault(symbol, {})[entry] = content
    return about


def _is_path(name: str) -> bool:
    return Path(name).is_absolute()


def _spin(settings: Cp2kSettings) -> str:
    if not settings.spin_polarised:
        return "unpolarised"
    return f"polarised, multiplicity {settings.multiplicity}"


def calculate(settings: Cp2kSettings, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
    """Calculate energy, forces and virial of a frame.

    Parameters
    ----------
    settings
        Level of theory and command.
    frame
        Frames of one.
    folder
        Folder for the files of this calculation; made if it is not there.
    cores
        MPI ranks.

    Raises
    ------
    ProgramNotFoundError
        If the command is not there.
    ProgramError
        If CP2K crashed or hung; with the end of its output.
    OtherLevelError
        If CP2K is of another version than the settings say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INPUT).write_text(input_file(settings, frame))
    (folder / OUTPUT).unlink(missing_ok=True)
    command = [*arguments(settings.command, cores, CURE), "-i", INPUT, "-o", OUTPUT]
    log = folder / "cp2k.log"
    ended = run_program(command, folder, log, settings.timeout)
    output = folder / OUTPUT
    text = output.read_text(errors="replace") if output.exists() else ""
    if _UNCONVERGED.search(text):
        return unconverged(frame, ended.seconds, cores)
    if ended.status or not text:
        raise ProgramError(f"CP2K {ended.words}{last_lines(output if text else log)}")
    _check(settings, text, cores)
    energy, forces, stress = read_output(text)
    return Calculated(
        energy=energy,
        forces=forces,
        virial=-frame.volumes[0] * stress,
        seconds=ended.seconds,
        cores=cores,
    )


def read_output(text: str) -> tuple[float, Array, Array]:
    """Read energy (eV), forces (eV/Å) and stress (eV/Å³, ASE's sign) from CP2K's output.

    CP2K prints the stress with the opposite sign: positive under compression. Its tables of
    forces, one up to 2024 and another from 2025 on, and its units of stress are told apart.

    Raises
    ------
    ProgramError
        If one of them is missing, or the stress is in a unit that is not known.
    """
    energies, forces = _ENERGY.findall(text), _FORCES.search(text)
    stress = _STRESS.search(text)
    parts = {"energy": energies, "forces": forces, "analytical stress tensor": stress}
    missing = [name for name, found in parts.items() if not found]
    if missing or forces is None or stress is None:
        raise ProgramError(f"CP2K's output lacks {', '.join(missing)}; was it cut short?")
    unit, rows = stress.groups()
    if unit not in PRESSURES:
        raise ProgramError(f"CP2K gives the stress in {unit}; known: {', '.join(PRESSURES)}")
    return (
        float(energies[-1]) * HARTREE,
        _table(_FORCE.findall(forces[0])) * HARTREE / BOHR,
        -PRESSURES[unit] * _table(_ROW.findall(rows)),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> Array:
    return np.array([[float(x.replace("D", "E")) for x in row if x] for row in rows])


def probe(settings: Cp2kSettings, cores: int = 1) -> tuple[str, Path]:
    """Ask CP2K for its version and the folder of its data (takes a second).

    Raises
    ------
    ProgramNotFoundError
        If the command is not there.
    ProgramError
        If it does not answer.
    OtherLevelError
        If it is of another version than the settings say.
    """
    with TemporaryDirectory() as place:
        log = Path(place) / "version"
        command = [*arguments(settings.command, cores, CURE), "--version"]
        ended = run_program(command, Path(place), log, PROBE_SECONDS)
        text = log.read_text(errors="replace")
        # Some builds of 2026 stumble over their own flags after they have said their version.
        if ended.status and not _VERSION.search(text):
            raise ProgramError(f"CP2K {ended.words}{last_lines(log)}")
    return _version(settings, text), _data_folder(text)


def _data_folder(text: str) -> Path:
    """Return the folder that CP2K was built with, unless the environment names another."""
    # The options of the compiler are broken anywhere into lines that begin with three blanks.
    built_with = _DATA.search(text.replace("\n   ", ""))
    folder = os.environ.get("CP2K_DATA_DIR") or (built_with[1] if built_with else None)
    if folder is None:
        raise ProgramError("CP2K does not say where its data are; set CP2K_DATA_DIR to the folder")
    return Path(folder)


def missing_kinds(
    settings: Cp2kSettings, elements: Iterable[str], data: Path
) -> Mapping[str, list[str]]:
    """Return the elements without basis set and those without pseudopotential.

    Parameters
    ----------
    settings
        Names and files of basis sets and pseudopotentials.
    elements
        Chemical symbols.
    data
        CP2K's data folder.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    """
    bases = {entry for name in settings.basis_files for entry in _entries(data / name)}
    potentials = _entries(data / settings.potential_file)
    kinds = {symbol: _kind(settings, symbol) for symbol in elements}
    return {
        "basis set": [f"{s} {basis}" for s, (basis, _) in kinds.items() if (s, basis) not in bases],
        "pseudopotential": [
            f"{s} {potential}"
            for s, (_, potential) in kinds.items()
            if (s, potential) not in potentials
        ],
    }


def _entries(path: Path) -> dict[tuple[str, str], str]:
    """Return symbol and name of all that a data file of CP2K holds, with a hash of its content.

    An entry begins with a line of symbol, name and aliases. Comments and spaces do not count.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; name it in label.basis_files or label.potential_file"
        )
    entries: dict[tuple[str, str], str] = {}
    head: list[str] = []
    body: list[str] = []
    lines = (line.split("#")[0].split() for line in path.read_text(errors="replace").splitlines())
    for line in (*filter(None, lines), ["End"]):
        if re.fullmatch(r"[A-Z][a-z]?|End", line[0]):
            content = hashlib.sha256("\n".join(body).encode()).hexdigest()[:12]
            entries |= {(head[0], name): content for name in head[1:]}
            head, body = line, []
        else:
            body.append(" ".join(line))
    return entries


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
    kinds = {symbol: _kind(settings, symbol) for symbol in frame.species}
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


def _kind(settings: Cp2kSettings, symbol: str) -> tuple[str, str]:
    own = settings.kinds.get(symbol, Kind())
    return own.basis or settings.basis, own.potential or settings.potential


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


def _check(settings: Cp2kSettings, text: str, cores: int) -> None:
    _version(settings, text)
    ranks = _RANKS.search(text)
    if ranks and int(ranks[1]) != cores:
        raise ProgramError(
            f"CP2K sees {ranks[1]} MPI ranks where label.cores says {cores}: set -np "
            "{cores} in label.command, and name the mpirun of the MPI that CP2K was built with, "
            "by its full path"
        )


def _version(settings: Cp2kSettings, text: str) -> str:
    match = _VERSION.search(text)
    found = match[1] if match else "unknown"
    check_version("CP2K", found, "version", settings.version)
    return found
