"""The queue behind FireWorks' queue adapter: which jobs are in it, and how to end them."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0
"""How long a command of the queue may take, in s."""


# FireWorks knows how to submit and how to list, not how to end.
CANCEL = {
    "SLURM": "scancel",
    "PBS": "qdel",
    "SGE": "qdel",
    "Cobalt": "qdel",
    "LoadLeveler": "llcancel",
    "LoadSharingFacility": "bkill",
    "MOAB": "canceljob",
}


@dataclass(frozen=True)
class Queue:
    """Commands of a queue.

    Attributes
    ----------
    status
        Lists the jobs that wait or run; a line of its output begins with the number of a job.
    cancel
        Ends the jobs whose numbers follow.
    """

    status: tuple[str, ...]
    cancel: tuple[str, ...]

    @classmethod
    def of(cls, adapter: Path | None) -> Queue | None:
        """Return the queue of a queue adapter of FireWorks.

        Parameters
        ----------
        adapter
            File of the adapter; by default the user's own ``my_qadapter.yaml``. The command that
            ends jobs is ``cancel_cmd`` under ``_q_commands_override``, if it is another than the
            usual one.

        Returns
        -------
        Queue or None
            None where there is no adapter, or one of an unknown kind.
        """
        from fireworks import fw_config
        from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
        from monty.serialization import loadfn

        file = adapter or fw_config.QUEUEADAPTER_LOC
        settings = loadfn(file) if file else {}
        kind = settings.get("_fw_q_type", "")
        known = CommonAdapter.default_q_commands.get(kind)
        if known is None:
            return None
        own = settings.get("_q_commands_override", {})
        commands = {"cancel_cmd": CANCEL[kind], **known, **own}
        status, cancel = (shlex.split(commands[name]) for name in ("status_cmd", "cancel_cmd"))
        return cls(tuple(status), tuple(cancel))

    def present(self) -> set[str] | None:
        """Return the numbers of all jobs that wait or run; None if the queue does not answer."""
        answer = _run(self.status)
        return None if answer is None else set(re.findall(r"^\s*(\d+)", answer, re.MULTILINE))

    def end(self, numbers: Iterable[str]) -> bool:
        """End jobs; return whether the queue took the request."""
        return _run((*self.cancel, *numbers)) is not None


def end_in_queue(adapter: Path | None, numbers: Sequence[str]) -> None:
    """End jobs in the queue, or name them in the log where that is not possible.

    Parameters
    ----------
    adapter
        File of the queue adapter; None for the user's own.
    numbers
        Numbers of the jobs in the queue.
    """
    queue = Queue.of(adapter) if numbers else None
    if numbers and not (queue and queue.end(numbers)):
        logging.getLogger(__name__).warning(
            "the queue did not end its jobs %s, end them by hand: %s",
            ", ".join(numbers),
            "its command failed" if queue else "no my_qadapter.yaml says which queue it is",
        )


def _run(command: tuple[str, ...]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
