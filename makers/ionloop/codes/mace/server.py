"""A process of MACE's own Python that answers questions about models, for as long as it is needed.

Importing MACE takes seconds, so one process answers for all models and all cells. ASE's sockets
(i-PI) do not serve for this: their protocol does not carry the elements, so that every composition
and every model would start a process of its own.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from ionloop.programs.environment import arguments
from ionloop.programs.errors import ProgramNotFoundError
from ionloop.programs.log import last_lines
from ionloop.programs.process import (
    ENDING_SECONDS,
    ProgramError,
    has_ended,
    running_program,
    status_words,
)
from ionloop.schemas.environment import expand
from ionloop.schemas.errors import InputError

VARIABLE = "IONLOOP_MACE_PYTHON"
"""Environment variable with the command of the Python of MACE's environment."""

TESTED = "0.3.15"
"""The version of mace-torch that docker/install-mace.sh installs."""

CURE = (
    "install MACE into an environment of its own (docker/install-mace.sh) and set train.python, or "
    f"the environment variable {VARIABLE}, to the command of its Python"
)

SCRIPT = "mace_script.py"


class MaceError(ProgramError):
    """MACE's process ended or failed; the message says why."""


class Server:
    """A process that answers questions; it starts with the first one, and ends with this object.

    Parameters
    ----------
    python
        Command of the Python of MACE's environment; environment variables are put in.
    device
        Device of torch.
    """

    def __init__(self, python: str, device: str) -> None:
        self._command = command(python)
        self._shown = shlex.join(self._command)
        self._device = device
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path()
        self._running = ExitStack()
        weakref.finalize(self, _end, os.getpid(), self._running)

    def ask(self, question: str, **about: Any) -> dict[str, Any]:
        """Ask a question and wait for its answer.

        Parameters
        ----------
        question
            Name of a function of `script.py`.
        about
            Its arguments.

        Raises
        ------
        InputError
            If the question cannot be answered with such a model.
        MaceError
            If the process ended or failed.
        """
        with self._lock:
            answer = self._answer({"ask": question, **about})
        if "refused" in answer:
            raise InputError(answer["refused"])
        if "error" in answer:
            raise MaceError(f"MACE failed to {question} ({self._shown}): {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process; the next question starts another."""
        _end(os.getpid(), self._running)
        self._process = None

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is not None and self._process.poll() == 0:
            self.close()  # it waited for long enough
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):  # its last words tell why
            os.write(process.stdin.fileno(), json.dumps(question).encode() + b"\n")
        line = process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self._lost(process, line) from None
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        folder = Path(self._running.enter_context(TemporaryDirectory(prefix="mace-")))
        self._log = folder / "mace.log"
        script = shutil.copy(Path(__file__).with_name("script.py"), folder / SCRIPT)
        # Until the script has opened its log, the pipe carries what Python says.
        self._process = self._running.enter_context(
            running_program(
                [*self._command, str(script), str(self._log), self._device],
                None,
                subprocess.PIPE,
                stdin=subprocess.PIPE,
            )
        )
        return self._process

    def _lost(self, process: subprocess.Popen[bytes], said: bytes) -> MaceError:
        """Return the error of a process that ended, or never came to answer."""
        assert process.stdout is not None
        rest = process.stdout.read() if has_ended(process, ENDING_SECONDS) else b""
        with self._log.open("ab") as log:
            log.write(said + rest)
        ended = process.returncode is not None
        how = status_words(process.returncode) if ended else "did not answer"
        problem = MaceError(f"MACE's process ({self._shown}) {how}{last_lines(self._log)}")
        self.close()
        return problem


def command(python: str) -> list[str]:
    """Return the command of MACE's Python as a list of words.

    Parameters
    ----------
    python
        As the user gives it.

    Raises
    ------
    ProgramNotFoundError
        If it is not there, or an environment variable in it is not set.
    """
    try:
        expanded = expand(python)
    except InputError:
        raise ProgramNotFoundError(python, CURE) from None
    return arguments(expanded, 1, CURE)


def server(python: str, device: str = "cpu") -> Server:
    """Return the process of this process that answers for a Python and a device.

    Parameters
    ----------
    python
        Command of the Python of MACE's environment.
    device
        Device of torch.
    """
    # By the words that it stands for now; and a fork must not read its parent's answers.
    return _server(shlex.join(command(python)), device, os.getpid())


@lru_cache(maxsize=4)
def _server(python: str, device: str, process: int) -> Server:
    return Server(python, device)


def _end(owner: int, running: ExitStack) -> None:
    if os.getpid() == owner:  # a fork must not end the process of its parent
        running.close()
