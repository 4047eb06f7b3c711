"""What custodian and VASP say of a run: corrections, and why it ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ionloop.programs.log import log_text


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
    log = loadfn(path, cls=None)
    return [_correction(entry) for job in log for entry in job["corrections"]]


def _correction(entry: Mapping[str, Any]) -> str:
    actions = [_action(action) for action in entry["actions"] or []]
    return f"{', '.join(entry['errors'])} → {', '.join(actions) or 'nothing'}"


def _action(action: Mapping[str, Any]) -> str:
    target = action.get("dict") or action.get("file") or "?"
    changes = action["action"].get("_set", action["action"])
    return f"{target} {', '.join(f'{key} = {value}' for key, value in changes.items())}"


def obituary(problem: BaseException, folder: Path) -> str:
    """Say why a run gave no result: custodian's error, its corrections, VASP's last words."""
    cures = "; ".join(corrections(folder)) or "none"
    said = " / ".join(_last_words(folder)) or "nothing"
    return f"{problem}; custodian's corrections: {cures}; VASP's last words: {said}"


def _last_words(folder: Path, n_lines: int = 2) -> list[str]:
    return [
        line.strip()
        for name in ("vasp.out", "std_err.txt")
        for line in log_text(folder / name).splitlines()[-n_lines:]
        if line.strip()
    ]
