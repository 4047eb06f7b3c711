"""What the logs of custodian and VASP say about a run: corrections, and why it failed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ionloop.programs.log import log_text

LAST_LINES = 2
"""Lines of each output file that an error message quotes."""


def corrections(folder: Path) -> list[str]:
    """Return what custodian corrected in a folder, one phrase per correction.

    Parameters
    ----------
    folder
        Where custodian.json is, gzipped or not; without one there were no corrections.
    """
    from monty.os.path import zpath
    from monty.serialization import loadfn

    path = Path(zpath(str(folder / "custodian.json")))
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
