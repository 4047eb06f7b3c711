"""Ask a program a question with a time limit, such as its version."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ionloop.programs.log import last_words, readable
from ionloop.programs.process import Ended, ProgramError, running_program

PROBE_SECONDS = 600.0
"""How long a program may take to answer before a run, in s.

On a busy machine, importing takes minutes.
"""


@dataclass(frozen=True)
class Answer(Ended):
    """What a program said, and how it ended.

    Parameters
    ----------
    text
        Standard output and error, without what is not text.
    """

    text: str

    @property
    def last_words(self) -> str:
        """The last line that tells something, with what it is; nothing if it said nothing."""
        return last_words(self.text)


def ask(
    command: Sequence[str], question: str = "", *, folder: Path | None = None, seconds: float
) -> Answer:
    """Start a program, ask it something and wait for its answer.

    Parameters
    ----------
    command
        Program and arguments.
    question
        Its standard input.
    folder
        Working folder; the current one without.
    seconds
        Time limit in s; the program is ended then, with all that it started.

    Raises
    ------
    ProgramError
        If it does not answer in time, or cannot be started at all.
    """
    begin = time.perf_counter()
    pipe = subprocess.PIPE
    try:
        with running_program(command, folder, pipe, stdin=pipe) as process:
            output, _ = process.communicate(question.encode(), seconds)
    except OSError as error:
        raise ProgramError(f"`{shlex.join(command)}` cannot be started: {error}") from None
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"`{shlex.join(command)}` did not answer within {seconds:g} s and was ended"
        ) from None
    text = readable(output.decode(errors="replace"))
    return Answer(process.returncode, time.perf_counter() - begin, text)
