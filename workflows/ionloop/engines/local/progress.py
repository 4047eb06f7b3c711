"""The progress of a run: what is shown, on a terminal and elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ionloop.codes.common.progress import advance_of
from ionloop.engines.local.journal import Entry
from ionloop.schemas.job import JobRow, clock

LINE_EVERY = 300.0
"""Time between two lines about the same jobs where there is no terminal, s."""

COLUMNS = (("running",), ("waiting",), ("failed", "skipped"))
"""States that the columns of numbers in the table count, as `count_by_role` names them."""


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
    folders
        Where its programs write.
    """

    name: str
    role: str
    cores: int
    started: datetime
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """State of a run at one moment.

    Attributes
    ----------
    run
        Id of the run.
    counts
        Number of jobs by role, then by state, of those that are known so far: each turn adds.
    running
        Jobs that run now.
    turn
        Turn at work, counted from 0; None outside of the loop.
    accurate
        Turn and accurate fraction of the last finished turn.
    """

    run: str
    counts: Mapping[str, Mapping[str, int]]
    running: tuple[Running, ...]
    turn: int | None = None
    accurate: tuple[int, float] | None = None


class Observer(Protocol):
    """Is told of every change of a run."""

    def update(self, snapshot: Snapshot) -> None:
        """Receive the state of the run after a change."""

    def close(self) -> None:
        """Receive that nothing more will come."""


class Silent:
    """Observer that shows nothing."""

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
        self._console = console or Console()
        self._snapshot = Snapshot(run="", counts={}, running=())
        self._pace = Pace()
        self._live = Live(
            get_renderable=lambda: table(self._snapshot, datetime.now(UTC), self._pace),
            console=self._console,
            refresh_per_second=1,
        )
        self._last_state = ""
        self._last_time = datetime.min.replace(tzinfo=UTC)

    def update(self, snapshot: Snapshot) -> None:
        """Show the snapshot."""
        self._snapshot = snapshot
        if self._console.is_terminal:
            self._live.start()
        else:
            self._print(snapshot, datetime.now(UTC))

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self._live.stop()

    def _print(self, snapshot: Snapshot, time: datetime) -> None:
        """Print a line for every change, and every `LINE_EVERY` seconds for what runs on."""
        state = summary_line(snapshot)
        if state == self._last_state and (time - self._last_time).total_seconds() < LINE_EVERY:
            return
        line = summary_line(snapshot, time, self._pace)
        self._console.print(f"{time.astimezone():%H:%M:%S}  {line}", highlight=False, markup=False)
        self._last_state, self._last_time = state, time


class Pace:
    """How fast the running jobs advance, from what was seen of them before."""

    def __init__(self) -> None:
        self._first: dict[Running, tuple[datetime, int]] = {}

    def describe(self, job: Running, time: datetime) -> str:
        """Return how far a job has come, and how long it still takes at its pace.

        Parameters
        ----------
        job
            The job.
        time
            Time now, UTC.
        """
        advance = advance_of(job.folders)
        if advance is None:
            return clock((time - job.started).total_seconds())
        since, before = self._first.setdefault(job, (time, advance.done))
        gained, left = advance.done - before, advance.total - advance.done
        if gained <= 0:
            return advance.words
        needed = left * (time - since) / gained
        return f"{advance.words}, {clock(needed.total_seconds())} left"


def count_by_role(entries: Iterable[Entry | JobRow]) -> dict[str, Counter[str]]:
    """Count jobs by role, then by state; what is in a queue or held counts as waiting."""
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        held = entry.state in ("queued", "paused")
        counts.setdefault(entry.role, Counter())["waiting" if held else entry.state] += 1
    return counts


def summary_line(snapshot: Snapshot, time: datetime | None = None, pace: Pace | None = None) -> str:
    """One line: the turn, what the last one reached, jobs by role, failures, and what runs.

    Parameters
    ----------
    snapshot
        State of the run.
    time
        Time now, UTC. Without it what runs is named alone, not how far it has come.
    pace
        What was seen of the running jobs before.
    """
    done = [
        f"{role} {_done(states)}" + (f" ({lost} failed)" if (lost := states.get("failed")) else "")
        for role, states in snapshot.counts.items()
    ]
    pace = pace or Pace()
    running = [
        f"{job.name} ({pace.describe(job, time)})" if time else job.name for job in snapshot.running
    ]
    now = f"running: {', '.join(running)}" if running else "nothing runs"
    return "; ".join([*_turn_words(snapshot), f"done so far: {', '.join(done)}", now])


def table(snapshot: Snapshot, time: datetime, pace: Pace | None = None) -> Table:
    """Table of a snapshot.

    Parameters
    ----------
    snapshot
        State of the run.
    time
        Time now, UTC: the table shows how far each job has come, or for how long it has run.
    pace
        What was seen of the running jobs before.
    """
    title = "; ".join([f"run {snapshot.run}", *_turn_words(snapshot)])
    result = Table(title=escape(title), title_justify="left")
    for column in ("role", "done so far", "running", "waiting", "failed", "now"):
        result.add_column(column)
    pace = pace or Pace()
    for role, states in snapshot.counts.items():
        jobs = [job for job in snapshot.running if job.role == role]
        now = "\n".join(f"{job.name}: {pace.describe(job, time)}" for job in jobs)
        cells = [str(sum(states.get(state, 0) for state in group) or "") for group in COLUMNS]
        result.add_row(role, _done(states), *cells, now)
    return result


def _turn_words(snapshot: Snapshot) -> list[str]:
    words = [] if snapshot.turn is None else [f"turn {snapshot.turn}"]
    if snapshot.accurate is not None:
        turn, fraction = snapshot.accurate
        words.append(f"turn {turn} was {fraction:.1%} accurate")
    return words


def _done(states: Mapping[str, int]) -> str:
    return f"{states.get('completed', 0)} of {sum(states.values())}"
