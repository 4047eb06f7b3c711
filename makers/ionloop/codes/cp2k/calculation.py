"""Labels from CP2K (Quickstep, Gaussians and plane waves), run as an outside program."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.dft import check_ranks, unconverged
from ionloop.codes.cp2k.data import data_folder
from ionloop.codes.cp2k.inputs import input_file
from ionloop.codes.cp2k.output import RANKS, VERSION, read_output, read_version
from ionloop.programs.environment import arguments
from ionloop.programs.log import last_lines
from ionloop.programs.process import PROBE_SECONDS, ProgramError, run_program
from ionloop.schemas.frames import Frames

if TYPE_CHECKING:
    from ionloop.codes.cp2k.settings import Cp2kSettings


INPUT, OUTPUT = "cp2k.inp", "cp2k.out"

CURE = "install CP2K (docker/install-cp2k.sh, docs/dft.md) or set label.command to where it is"

_UNCONVERGED = re.compile(r"SCF run NOT converged|outer SCF loop FAILED to converge")


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
        If CP2K crashed or hung, with the end of its output; or if it ran on other MPI ranks.
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
    read_version(settings, text)
    if ranks := RANKS.search(text):
        check_ranks("CP2K", int(ranks[1]), cores)
    energy, forces, stress = read_output(text)
    return Calculated(
        energy=energy,
        forces=forces,
        virial=-frame.volumes[0] * stress,
        seconds=ended.seconds,
        cores=cores,
    )


def probe(settings: Cp2kSettings, cores: int = 1) -> tuple[str, Path]:
    """Ask CP2K for its version and the folder of its data (takes a second).

    Parameters
    ----------
    settings
        Command, and the version that is expected.
    cores
        MPI ranks.

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
        # Some builds of 2026 fail on their own flags after they have printed the version.
        if ended.status and not VERSION.search(text):
            raise ProgramError(f"CP2K {ended.words}{last_lines(log)}")
    return read_version(settings, text), data_folder(text)
