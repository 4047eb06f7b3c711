"""What a runner tells about its progress, and who listens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from ionloop.runners.journal import Entry


@dataclass(frozen=True)
class Running:
    """A job that runs now.

    Attributes
    ----------
    name, role
        Of the job.
    cores
        Cores it holds.
    started
        Time of its start, UTC.
    """

    name: str
    role: str
    cores: int
    started: datetime


@dataclass(frozen=True)
class Snapshot:
    """State of a run at one moment.

    Attributes
    ----------
    run
        Id of the run.
    counts
        Number of jobs by role, then by state.
    running
        Jobs that run now.
    """

    run: str
    counts: Mapping[str, Mapping[str, int]]
    running: tuple[Running, ...]


class Observer(Protocol):
    """Hears of every change of a run."""

    def update(self, snapshot: Snapshot) -> None:
        """Take note of a change."""

    def close(self) -> None:
        """Take note that nothing more will come."""


class Silent:
    """Observer that says nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class RichProgress:
    """Observer that shows a live table on a terminal, and plain lines elsewhere.

    Parameters
    ----------
    console
        Where to write; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        self._console = console or Console()
        self._live: Live | None = None
        self._snapshot: Snapshot | None = None
        self._last_line = ""

    def update(self, snapshot: Snapshot) -> None:
        """Show the snapshot."""
        self._snapshot = snapshot
        if self._console.is_terminal:
            self._show()
        else:
            self._print(snapshot)

    def close(self) -> None:
        """Leave the last table on the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                get_renderable=self._table, console=self._console, refresh_per_second=2
            )
            self._live.start()

    def _table(self) -> Table:
        assert self._snapshot is not None
        return table(self._snapshot, datetime.now(UTC))

    def _print(self, snapshot: Snapshot) -> None:
        line = summary_line(snapshot)
        if line != self._last_line:
            self._console.print(f"{datetime.now():%H:%M:%S}  {line}", highlight=False)
            self._last_line = line


def count_by_role(entries: Iterable[Entry]) -> dict[str, dict[str, int]]:
    """Count jobs by role, then by state."""
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        counts.setdefault(entry.role, Counter())[entry.state] += 1
    return {role: dict(states) for role, states in counts.items()}


def summary_line(snapshot: Snapshot) -> str:
    """One line: completed and known jobs by role, failures, and what runs."""
    roles = [_role_summary(role, states) for role, states in snapshot.counts.items()]
    names = ", ".join(job.name for job in snapshot.running)
    return "  ".join([*roles, f"running: {names}" if names else "nothing runs"])


def table(snapshot: Snapshot, time: datetime) -> Table:
    """Table of a snapshot.

    Parameters
    ----------
    snapshot
        State of the run.
    time
        Time now, UTC: the table shows for how long each job has run.
    """
    from rich.table import Table

    result = Table(title=f"run {snapshot.run}", title_justify="left")
    for column in ("role", "done", "running", "waiting", "failed", "now"):
        result.add_column(column)
    for role, states in snapshot.counts.items():
        result.add_row(role, *_cells(states), _running_cell(snapshot, role, time))
    return result


def _cells(states: Mapping[str, int]) -> list[str]:
    done = f"{states.get('completed', 0)}/{sum(states.values())}"
    lost = states.get("failed", 0) + states.get("skipped", 0)
    return [done, *(str(n or "") for n in (states.get("running"), states.get("waiting"), lost))]


def _running_cell(snapshot: Snapshot, role: str, time: datetime) -> str:
    jobs = [job for job in snapshot.running if job.role == role]
    return ", ".join(f"{job.name} {(time - job.started).total_seconds():.0f} s" for job in jobs)


def _role_summary(role: str, states: Mapping[str, int]) -> str:
    lost = states.get("failed", 0)
    failures = f" ({lost} failed)" if lost else ""
    return f"{role} {states.get('completed', 0)}/{sum(states.values())}{failures}"
