"""What a test file may take, in seconds, so that the whole check stays a matter of minutes.

``budget.toml`` says what a file takes on two free cores, its fixtures included; a file that is not
named there has to do with ``default``. Machines differ and are busy with other things. So a file
is over its budget if it took ``busy`` times as much processor time, with the programs that its
tests started, or ``idle`` times as long, most of it waiting. A file over its budget is reported at
the end of the run; the run fails by it where IONLOOP_TEST_BUDGET is ``enforced``, as `.ci/run` has
it.
"""

from __future__ import annotations

import os
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KINDS = ("slow", "integration")


class Budget:
    """Add up what the tests of each file take, and compare it with the budgets."""

    def __init__(self, path: Path) -> None:
        self.limits: dict[str, Any] = tomllib.loads(path.read_text())
        self.spent: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        busy, begin = processor_time(), time.perf_counter()
        try:
            return (yield)
        finally:
            self.add(item, processor_time() - busy, time.perf_counter() - begin)

    def add(self, item: pytest.Item, busy: float, seconds: float) -> None:
        """Add a test: processor time and duration in s.

        A program counts when it is waited for. This may be in a later test, so that no test is
        charged more than all processors could do during it.
        """
        busy = min(busy, seconds * (os.cpu_count() or 1))
        kind = next((mark for mark in KINDS if item.get_closest_marker(mark)), "quick")
        spent = self.spent[kind, item.nodeid.partition("::")[0]]
        spent[0] += busy
        spent[1] += seconds

    def limits_of(self, kind: str, file: str) -> tuple[float, float]:
        """Return the processor time and the duration in s that a file may take."""
        seconds = self.limits[kind].get(file, self.limits[kind]["default"])
        return seconds * self.limits["busy"], seconds * self.limits["idle"]

    def over(self) -> list[str]:
        """Return a sentence for every file that took too long."""
        return [
            f"{file}: its {kind} tests took {busy:.0f} s of processor time in {seconds:.0f} s, "
            "and may take {:.0f} s in {:.0f} s".format(*self.limits_of(kind, file))
            for (kind, file), (busy, seconds) in sorted(self.spent.items())
            if kind != "slow"
            for most_busy, most in [self.limits_of(kind, file)]
            if busy > most_busy or seconds > most
        ]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.over() and not exitstatus and os.environ.get("IONLOOP_TEST_BUDGET") == "enforced":
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if over := self.over():
            terminalreporter.section("over the budget of tests/budget.toml")
            for sentence in over:
                terminalreporter.line(sentence)


def processor_time() -> float:
    """Return the processor time in s of this process and of the programs that it waited for."""
    return sum(os.times()[:4])
