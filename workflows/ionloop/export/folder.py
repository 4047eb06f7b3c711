"""The folder that an export goes to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ionloop.schemas.errors import IonloopError


class ExportError(IonloopError, ValueError):
    """Nothing can be exported; the message says why and what to do."""


def claim_file(path: Path, force: bool = False) -> Path:
    """Return the path of a file to write, its folder made.

    Raises
    ------
    ExportError
        If it is there already, and `force` is not set.
    """
    make_way([path], force)
    return path


def make_way(targets: Sequence[Path], force: bool, account: Path | None = None) -> None:
    """Make the folders; remove what an earlier export wrote if told to, else refuse.

    Parameters
    ----------
    targets
        Files and folders to write.
    force
        Whether to replace what is there.
    account
        The account of the earlier export, which names all that it wrote.

    Raises
    ------
    ExportError
        Naming what is in the way.
    """
    there = [path for path in targets if path.is_file() or files_inside(path)]
    if there and not force:
        raise ExportError(f"{there[0]} is there already; choose another folder, or --force")
    for path in _earlier(there, account):
        _remove(path)
    for path in targets:
        path.parent.mkdir(parents=True, exist_ok=True)


def _earlier(there: Iterable[Path], account: Path | None) -> set[Path]:
    """Return the files to replace, after looking that they are of an earlier export."""
    found = {file for path in there for file in (files_inside(path) or {path})}
    if account is None:
        return found
    written = _written_before(account) | {account}
    if strange := found - written:
        raise ExportError(
            f"{min(strange)} is not of an earlier export: move it, or choose another folder"
        )
    return written if found else set()


def _remove(file: Path) -> None:
    """Remove a file, and the folders that are empty without it."""
    file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a folder that holds something stays
        for folder in file.parents:
            folder.rmdir()


def _written_before(account: Path) -> set[Path]:
    if not account.is_file():
        return set()
    try:
        names = json.loads(account.read_text()).get("files", [])
    except (ValueError, AttributeError):
        raise ExportError(
            f"{account} is not of an earlier export: move it, or choose another folder"
        ) from None
    home = account.parent.resolve()
    found = {account.parent / name for name in names}
    return {path for path in found if path.resolve().is_relative_to(home) and path.is_file()}


def files_inside(path: Path) -> set[Path]:
    """Return the files of a folder; none of a file."""
    return {each for each in path.rglob("*") if not each.is_dir()} if path.is_dir() else set()
