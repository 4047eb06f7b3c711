"""What a test file may take, in seconds, so that the whole check stays a matter of minutes.

``budget.toml`` says how long a file takes on two free cores, its fixtures included; a file that is
not named there has to do with ``default``. Machines differ and are busy with other things, so every
file may take ``factor`` times as long. A file over that is reported at the end of the run; the run
fails by it where IONLOOP_TEST_BUDGET is ``enforced``, as `.ci/run` has it.
"""

from __future__ import annotations

import os
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

KINDS = ("slow", "integration", "quick")


class Budget:
    """Add up what the tests of each file take, and compare it with the budgets."""

    def __init__(self, path: Path) -> None:
        self.limits: dict[str, Any] = tomllib.loads(path.read_text())
        self.kinds: dict[str, str] = {}
        self.spent: defaultdict[tuple[str, str], float] = defaultdict(float)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            marks = [kind for kind in KINDS if item.get_closest_marker(kind)]
            self.kinds[item.nodeid] = (*marks, "quick")[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        self.spent[self.kinds.get(report.nodeid, "quick"), file] += report.duration

    def limit(self, kind: str, file: str) -> float:
        """Return the seconds that a file may take on this machine."""
        seconds = self.limits[kind].get(file, self.limits[kind]["default"])
        return float(seconds * self.limits["factor"])

    def over(self) -> list[str]:
        """Return a sentence for every file that took too long."""
        return [
            f"{file}: its {kind} tests took {seconds:.0f} s of {self.limit(kind, file):.0f} s"
            for (kind, file), seconds in sorted(self.spent.items())
            if kind != "slow" and seconds > self.limit(kind, file)
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
