"""A test file that takes too long is reported, and fails the run where that is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from budget import Budget, processor_time  # type: ignore[import-not-found]

HERE = Path(__file__).parent


def spent(busy: float, seconds: float = 0.0, kind: str = "quick") -> Budget:
    budget = Budget(HERE / "budget.toml")
    for when in range(2):
        item: Any = SimpleNamespace(
            nodeid=f"tests/test_new.py::test_{when}", get_closest_marker=kind.__eq__
        )
        budget.add(item, busy / 2, seconds / 2)
    return budget


@pytest.mark.parametrize("kind", ["quick", "integration"])
def test_a_new_file_has_the_default(kind: str) -> None:
    busy, seconds = Budget(HERE / "budget.toml").limits_of(kind, "tests/test_new.py")
    assert spent(0.9 * busy, 0.9 * seconds, kind).over() == []
    for much in (spent(1.1 * busy, 1.1 * busy, kind), spent(0.0, 1.1 * seconds, kind)):
        (sentence,) = much.over()
        assert sentence.startswith(f"tests/test_new.py: its {kind} tests took")


def test_the_processor_time_of_programs_counts() -> None:
    before = processor_time()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert processor_time() > before + 0.05


def test_programs_that_are_waited_for_late_are_not_charged_to_a_short_test() -> None:
    assert spent(1e6, 1.0).over() == []


def test_tests_that_are_called_slow_are_free() -> None:
    assert spent(1e6, 1e6, "slow").over() == []


@pytest.mark.parametrize(("seconds", "status"), [(0.1, 0), (1e6, pytest.ExitCode.TESTS_FAILED)])
def test_the_run_fails_by_it_where_asked(
    seconds: float, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    session: Any = SimpleNamespace(exitstatus=0)
    budget = spent(seconds, seconds)
    monkeypatch.delenv("IONLOOP_TEST_BUDGET", raising=False)
    budget.pytest_sessionfinish(session, 0)
    assert session.exitstatus == 0
    monkeypatch.setenv("IONLOOP_TEST_BUDGET", "enforced")
    budget.pytest_sessionfinish(session, 0)
    assert session.exitstatus == status


def test_the_budgets_are_of_files_that_are_there() -> None:
    limits = Budget(HERE / "budget.toml").limits
    named = {file for kind in ("quick", "integration") for file in limits[kind]} - {"default"}
    assert [file for file in sorted(named) if not (HERE.parent / file).is_file()] == []
