"""The folder that an export writes to, and the account of what it wrote there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ionloop.schemas.errors import IonloopError


class ExportError(IonloopError, ValueError):
    """Nothing can be exported; the message says why and what to do."""


def prepare_targets(targets: Sequence[Path], force: bool, account: Path | None = None) -> None:
    """Create the folders that an export writes to, and remove what an earlier export wrote.

    Parameters
    ----------
    targets
        Files and folders to write.
    force
        Whether to replace what exists.
    account
        The account of the earlier export, which names the files that it wrote. Without one every
        target is replaced.

    Raises
    ------
    ExportError
        If a target exists and is not to be replaced, or is not of an earlier export.
    """
    existing = [path for path in targets if path.is_file() or files_inside(path)]
    if existing and not force:
        raise ExportError(f"{existing[0]} is there already; choose another folder, or --force")
    for path in _replaceable(existing, account):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a folder that still holds something stays
            for folder in path.parents:
                folder.rmdir()
    for path in targets:
        path.parent.mkdir(parents=True, exist_ok=True)


def write_account(path: Path, content: Mapping[str, Any], targets: Iterable[Path]) -> None:
    """Write the account of an export as JSON.

    Parameters
    ----------
    path
        The file to write.
    content
        What the export is and where it comes from.
    targets
        Files and folders that were written; the account names every file, relative to its folder.
    """
    files = sorted(
        str(file.relative_to(target.parent))
        for target in targets
        for file in (files_inside(target) or {target})
    )
    text = json.dumps({**content, "files": files}, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n")


def files_inside(path: Path) -> set[Path]:
    """Return the files in a folder; none if the path is a file."""
    return {each for each in path.rglob("*") if not each.is_dir()} if path.is_dir() else set()


def _replaceable(existing: Iterable[Path], account: Path | None) -> set[Path]:
    """Return the files to replace, after a check that an earlier export wrote them."""
    found = {file for path in existing for file in (files_inside(path) or {path})}
    if account is None:
        return found
    written = _written_before(account) | {account}
    if strange := found - written:
        raise _not_ours(min(strange))
    return written if found else set()


def _written_before(account: Path) -> set[Path]:
    if not account.is_file():
        return set()
    try:
        names = json.loads(account.read_text()).get("files", [])
    except (ValueError, AttributeError):
        raise _not_ours(account) from None
    home = account.parent.resolve()
    found = {account.parent / name for name in names}
    return {path for path in found if path.resolve().is_relative_to(home) and path.is_file()}


def _not_ours(path: Path) -> ExportError:
    return ExportError(f"{path} is not of an earlier export: move it, or choose another folder")
