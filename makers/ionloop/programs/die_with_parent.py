"""Run a program that ends when its parent ends.

``python -m ionloop.programs.die_with_parent PROGRAM ARGUMENTS``

custodian starts VASP in a session of its own, where the signals that end a job do not reach it:
VASP would go on after its job has ended. So the kernel ends it (Linux, ``prctl(2)``).
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(command: str) -> str:
    """Return the shell command that runs `command` so that it ends when its parent ends."""
    return f"{shlex.quote(sys.executable)} -m {__name__} {command}"


def main() -> None:
    """Ask the kernel for a signal when the parent ends, and become the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
