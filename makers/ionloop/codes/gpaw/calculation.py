"""Labels from GPAW in plane waves, run as an outside program in an environment of its own.

Each frame is one start of GPAW: it takes a few seconds, and a crash or a hang costs one frame.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dft import check_ranks, check_version, unconverged
from ionloop.programs.environment import arguments
from ionloop.programs.log import last_lines
from ionloop.programs.process import PROBE_SECONDS, Ended, ProgramError, run_program
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import mesh_of

if TYPE_CHECKING:
    from ionloop.codes.gpaw.settings import GpawSettings


SCRIPT = "gpaw_script.py"

CURE = "install GPAW (docker/install-gpaw.sh, docs/dft.md) or set label.command to where it is"


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
    """Return GPAW's keyword arguments for a frame; symmetry is off, for exact forces.

    Parameters
    ----------
    settings
        Level of theory.
    frame
        Frames of one.
    """
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
    return _ask(settings, request, folder, cores, PROBE_SECONDS)[0]


def _ask(
    settings: GpawSettings, request: dict[str, Any], folder: Path, cores: int, timeout: float
) -> tuple[dict[str, Any], Ended]:
    folder.mkdir(parents=True, exist_ok=True)
    reply, log = folder / "answer.json", folder / "gpaw.log"
    for old in (reply, folder / "gpaw.txt"):
        old.unlink(missing_ok=True)
    shutil.copy(Path(__file__).with_name("script.py"), folder / SCRIPT)
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
    check_ranks("GPAW", answer["ranks"], cores)
    for key, name in (("version", "GPAW"), ("setups_version", "its setups")):
        check_version(name, answer[key], key, getattr(settings, key))
    return answer, ended
