"""Labels from GPAW in plane waves, run as an outside program in an environment of its own.

Each frame is one start of GPAW: it takes a few seconds, and a crash or a hang costs one frame.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from ionloop.codes.acceptance import Calculated
from ionloop.codes.dft import DftSettings, as_calculator, check_version, unconverged
from ionloop.codes.program import Command, Ended, ProgramError, arguments, last_lines, run_program
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import mesh_of, words
from ionloop.schemas.label import LevelOfTheory

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

SCRIPT = "gpaw_script.py"
CURE = "install GPAW (docker/install-gpaw.sh, docs/dft.md) or set label.command to where it is"
# Options of GPAW that say how it computes, not what.
ARRANGEMENT = {"parallel", "verbose", "communicator"}
PROBE_SECONDS = 300.0
# GPAW takes "default" and numbers of atoms beside chemical symbols.
_SYMBOL = re.compile(r"[A-Z][a-z]?")


class GpawSettings(DftSettings):
    """GPAW in plane waves as a labeller."""

    program: ClassVar[str] = "gpaw"

    command: Command = Field(
        "mpirun.openmpi -np {cores} gpaw python",
        description="what runs a Python script under GPAW, {cores} standing for the MPI ranks; "
        "the mpirun must be that of the MPI that GPAW was built with",
    )
    version: str = Field(
        "26", description="GPAW's version as far as labels depend on it; another one is refused"
    )
    setups_version: str = Field(
        "1.2.1",
        description="version of gpaw-data, or name of the folder of the setups; another one is "
        "refused",
    )
    cutoff: Annotated[float, Field(gt=0)] = Field(
        500.0, description="plane-wave cut-off in eV", json_schema_extra={"unit": "eV"}
    )
    smearing: Annotated[float, Field(ge=0)] = Field(
        0.05,
        description="Fermi-Dirac width in eV; 0 for fixed occupations",
        json_schema_extra={"unit": "eV"},
    )
    energy_convergence: Annotated[float, Field(gt=0)] = Field(
        1e-5,
        description="change of the energy at convergence, eV per valence electron",
        json_schema_extra={"unit": "eV"},
    )
    density_convergence: Annotated[float, Field(gt=0)] = Field(
        1e-4, description="change of the density at convergence, electrons per valence electron"
    )
    setups: dict[str, str] = Field(
        default_factory=dict,
        description="setup by chemical symbol where it is not the default one, such as {Ti: '4'}",
    )
    magnetic_moments: dict[str, float] = Field(
        default_factory=dict,
        description="initial magnetic moment by chemical symbol in μB, with spin_polarised",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="further keyword arguments of GPAW, or other values, but not kpts",
    )

    @field_validator("options")
    @classmethod
    def _leave_kpoints_alone(cls, options: dict[str, Any]) -> dict[str, Any]:
        if "kpts" in options:  # what is said of the meshes, and kept, is said of kpoints
            raise ValueError("options: kpts is not set there: say kpoints")
        return options

    def ase_calculator(self, folder: Path, cores: int) -> Calculator:
        """Return an ASE calculator that starts GPAW in `folder` on so many MPI ranks."""
        return as_calculator(partial(calculate, self, folder=folder, cores=cores))


def level_of_theory(settings: GpawSettings) -> LevelOfTheory:
    """Describe everything that decides a label's value, without starting GPAW.

    Command, limits, time limit and step limit are left out: they decide whether there is a
    label, not its value.
    """
    about: dict[str, Any] = {
        "version": settings.version,
        "setups": settings.setups_version,
        "xc": settings.xc,
        "cut-off": f"{settings.cutoff:g} eV",
        "k-points": words(settings.kpoints),
        "spin": "polarised" if settings.spin_polarised else "unpolarised",
        "smearing": f"{settings.smearing:g} eV",
        "convergence": f"{settings.energy_convergence:g} eV, {settings.density_convergence:g} e",
    }
    options = {k: v for k, v in settings.options.items() if k not in ARRANGEMENT}
    moments = settings.magnetic_moments if settings.spin_polarised else {}
    of_no_element = {k: v for k, v in settings.setups.items() if not _SYMBOL.fullmatch(k)}
    # In versions before, all elements of the settings were in every key.
    before = about | _filled(
        {"special setups": settings.setups, "magnetic moments": moments, "options": options}
    )
    return LevelOfTheory(
        code="gpaw",
        settings=about | _filled({"special setups": of_no_element, "options": options}),
        elements=_by_element(
            {"setup": settings.setups, "magnetic moment": {k: v for k, v in moments.items() if v}}
        ),
        start_cells=settings.start_cells,
        former=[LevelOfTheory(code="gpaw", settings=before).hash],
    )


def _by_element(tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn tables by name and chemical symbol into one by symbol and name."""
    symbols = sorted({symbol for table in tables.values() for symbol in table})
    return {
        symbol: {name: table[symbol] for name, table in tables.items() if symbol in table}
        for symbol in symbols
        if _SYMBOL.fullmatch(symbol)
    }


def _filled(named: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if value}


def calculate(settings: GpawSettings, frame: Frames, folder: Path, cores: int = 1) -> Calculated:
    """Calculate energy, forces and virial of a frame.

    The energy is the free energy, from which the forces derive.

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
        If GPAW crashed or hung; with the end of its log.
    OtherLevelError
        If GPAW or its setups are of another version than the settings say.
    """
    atoms: dict[str, Any] = {
        "symbols": list(frame.symbols),
        "positions": frame.positions[0].tolist(),
        "cell": frame.cells[0].tolist(),
    }
    if settings.spin_polarised:
        atoms["magmoms"] = [settings.magnetic_moments.get(s, 0.0) for s in frame.symbols]
    request = {"atoms": atoms, "parameters": parameters(settings, frame)}
    answer, ended = _ask(settings, request, folder, cores, settings.timeout)
    _check_versions(settings, answer)
    if not answer["converged"]:
        return unconverged(frame, ended.seconds, cores)
    return Calculated(
        energy=answer["energy"],
        forces=np.array(answer["forces"]),
        virial=-frame.volumes[0] * np.array(answer["stress"]),
        positions=np.array(answer["positions"]),
        cell=np.array(answer["cell"]),
        seconds=ended.seconds,
        cores=cores,
    )


def parameters(settings: GpawSettings, frame: Frames) -> dict[str, Any]:
    """Return GPAW's keyword arguments for a frame; symmetry is off, as forces are to be exact."""
    return {
        "mode": {"name": "pw", "ecut": settings.cutoff},
        "xc": settings.xc,
        "kpts": {"size": list(mesh_of(settings.kpoints, frame)), "gamma": True},
        "symmetry": "off",
        "spinpol": settings.spin_polarised,
        "occupations": {"name": "fermi-dirac", "width": settings.smearing},
        "convergence": {
            "energy": settings.energy_convergence,
            "density": settings.density_convergence,
        },
        "maxiter": settings.max_scf_steps,
        "setups": {"default": "paw", **settings.setups},
        **settings.options,
    }


def probe(
    settings: GpawSettings, elements: Sequence[str], folder: Path, cores: int = 1
) -> dict[str, Any]:
    """Start GPAW and ask for its version and its setups (takes seconds).

    Parameters
    ----------
    settings
        Command, functional and setups.
    elements
        Chemical symbols.
    folder
        Folder for the files of the probe.
    cores
        MPI ranks.

    Returns
    -------
    dict
        ``version``, ``setups_version``, ``ranks`` and ``missing``, the symbols without a setup.

    Raises
    ------
    ProgramNotFoundError, ProgramError, OtherLevelError
        As for `calculate`.
    """
    request = {"elements": list(elements), "xc": settings.xc, "setups": settings.setups}
    answer, _ = _ask(settings, request, folder, cores, PROBE_SECONDS)
    _check_versions(settings, answer)
    return answer


def _ask(
    settings: GpawSettings, request: dict[str, Any], folder: Path, cores: int, timeout: float
) -> tuple[dict[str, Any], Ended]:
    folder.mkdir(parents=True, exist_ok=True)
    reply, log = folder / "answer.json", folder / "gpaw.log"
    for old in (reply, folder / "gpaw.txt"):
        old.unlink(missing_ok=True)
    shutil.copy(Path(__file__).with_name(SCRIPT), folder / SCRIPT)
    (folder / "request.json").write_text(json.dumps({**request, "ranks": cores}))
    command = [*arguments(settings.command, cores, CURE), SCRIPT]
    try:
        ended = run_program(command, folder, log, timeout)
    except ProgramError as error:
        text = folder / "gpaw.txt"
        raise ProgramError(f"{error}{last_lines(text if text.exists() else log)}") from None
    if ended.status or not reply.exists():
        raise ProgramError(f"GPAW {ended.words}{last_lines(log)}")
    answer: dict[str, Any] = json.loads(reply.read_text())
    _check_ranks(answer, cores)
    return answer, ended


def _check_ranks(answer: dict[str, Any], cores: int) -> None:
    if answer["ranks"] != cores:
        raise ProgramError(
            f"GPAW sees {answer['ranks']} MPI ranks where label.cores says {cores}: set -np "
            "{cores} in label.command, and name the mpirun of the MPI that GPAW was built with, "
            "by its full path"
        )


def _check_versions(settings: GpawSettings, answer: dict[str, Any]) -> None:
    for key, name in (("version", "GPAW"), ("setups_version", "its setups")):
        check_version(name, answer[key], key, getattr(settings, key))
