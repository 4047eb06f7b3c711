from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ionloop.programs.resume_marker import clear_unless_same_work

PATTERNS = ("model-*", "over")


def begin(folder: Path, *inputs: bytes) -> None:
    """Begin work in a folder, which leaves two files."""
    clear_unless_same_work(folder, PATTERNS, inputs)
    for name in ("model-1", "over"):
        (folder / name).touch()


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"fingerprint"}


def test_the_same_work_finds_what_it_left(tmp_path: Path) -> None:
    begin(tmp_path, b"data", b"seed")
    clear_unless_same_work(tmp_path, PATTERNS, [b"data", b"seed"])
    assert left(tmp_path) == {"model-1", "over"}


@pytest.mark.parametrize("inputs", [[b"data"], [b"seed", b"data"], [b"datas", b"eed"], []])
def test_other_work_finds_nothing_but_what_is_not_its_own(
    inputs: list[bytes], tmp_path: Path
) -> None:
    begin(tmp_path, b"data", b"seed")
    (tmp_path / "log").touch()
    clear_unless_same_work(tmp_path, PATTERNS, inputs)
    assert left(tmp_path) == {"log"}


@pytest.mark.parametrize("next_inputs", [[b"old"], [b"new"]])
def test_what_a_kill_leaves_half_removed_is_nobodys(
    next_inputs: list[bytes],
    tmp_path: Path,
    killed_at: Callable[[str], AbstractContextManager[None]],
) -> None:
    begin(tmp_path, b"old")
    with killed_at("over"):
        clear_unless_same_work(tmp_path, PATTERNS, [b"new"])
    assert left(tmp_path) == {"over"}
    clear_unless_same_work(tmp_path, PATTERNS, next_inputs)
    assert left(tmp_path) == set()
