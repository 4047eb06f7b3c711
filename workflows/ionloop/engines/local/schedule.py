"""Which jobs may start, which never will: pure functions over journal entries.

The rules are those of ``jobflow.run_locally``, and one more. A job waits until its parents and
everything that replaces them or is their detour has ended; it is skipped if a parent failed
(unless it tolerates missing references) or stopped its children. One that tolerates missing
references is skipped too if none of its parents was tried: it would report a failure that is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ionloop.engines.local.entries import Entry, Stop
from ionloop.engines.local.journal import LIVE


@dataclass(frozen=True)
class Survey:
    """uuids of the jobs of a run by what they mean to their children.

    Attributes
    ----------
    unsettled
        Not ended, or replaced or detoured by something that has not ended.
    failed
        Failed, or skipped because a parent failed.
    untried
        Those of the failed that were skipped.
    stopped
        Their children are not to run.
    run_stopped
        Whether a job stopped the whole run.
    """

    unsettled: frozenset[str]
    failed: frozenset[str]
    untried: frozenset[str]
    stopped: frozenset[str]
    run_stopped: bool

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Survey:
        """Survey all entries of a run."""
        unsettled: set[str] = set()
        failed: set[str] = set()
        untried: set[str] = set()
        stopped: set[str] = set()
        run_stopped = False
        for entry in entries:
            if entry.state in LIVE:
                unsettled |= {entry.uuid, *entry.holds}
            elif entry.stop is not None:
                stopped.add(entry.uuid)
                run_stopped |= entry.stop == "run"
            elif entry.state != "completed":
                failed.add(entry.uuid)
                if entry.state == "skipped":
                    untried.add(entry.uuid)
        return cls(
            unsettled=frozenset(unsettled),
            failed=frozenset(failed),
            untried=frozenset(untried),
            stopped=frozenset(stopped),
            run_stopped=run_stopped,
        )


@dataclass(frozen=True)
class Skip:
    """A job that will not run, and why.

    Attributes
    ----------
    entry
        The job.
    stop
        What stopped it; None if a parent failed.
    reason
        A sentence.
    """

    entry: Entry
    stop: Stop | None
    reason: str


def ready(entries: list[Entry], survey: Survey) -> list[Entry]:
    """Waiting jobs that may start now, in order of submission."""
    waiting = [entry for entry in entries if entry.state == "waiting"]
    able = [entry for entry in waiting if may_start(entry, survey)]
    return sorted(able, key=lambda entry: entry.order)


def may_start(entry: Entry, survey: Survey) -> bool:
    """Whether nothing stands between a waiting job and its start."""
    settled = not entry.parents & survey.unsettled
    return settled and skip(entry, survey) is None


def skips(entries: list[Entry], survey: Survey) -> list[Skip]:
    """Waiting jobs that will never run."""
    waiting = [entry for entry in entries if entry.state == "waiting"]
    found = [skip(entry, survey) for entry in waiting]
    return [each for each in found if each is not None]


def skip(entry: Entry, survey: Survey) -> Skip | None:
    """Why a waiting job will never run, or None if it still may."""
    if survey.run_stopped:
        return Skip(entry, "run", f"{entry.name} was skipped: a job stopped the run")
    if entry.parents & survey.unsettled:
        return None
    if entry.parents & survey.stopped:
        return Skip(entry, "children", f"{entry.name} was skipped: a parent stopped its children")
    tolerates = entry.tolerant and not entry.parents <= survey.untried
    if entry.parents & survey.failed and not tolerates:
        return Skip(entry, None, f"{entry.name} was skipped: a parent failed or was skipped")
    return None


def fitting(able: list[Entry], free: int, budget: int) -> list[Entry]:
    """First jobs in order whose cores fit side by side.

    Parameters
    ----------
    able
        Jobs that may start, in order.
    free
        Cores that are free now.
    budget
        Cores of the whole machine; a job that asks for more gets all of them.
    """
    chosen = []
    for entry in able:
        needed = min(entry.cores, budget)
        if needed <= free:
            chosen.append(entry)
            free -= needed
    return chosen
