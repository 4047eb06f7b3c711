"""Which jobs may start, which never will: pure functions over journal entries.

The rules are those of ``jobflow.run_locally``, and one more. A job waits until its parents and
everything that replaces them or is their detour has ended; it is skipped if a parent failed
(unless it tolerates missing references) or stopped its children. One that tolerates missing
references is skipped too if none of its parents was tried: it would report a failure that is none.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ionloop.engines.local.journal import LIVE, Entry, Stop


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
    def of(cls, entries: Collection[Entry]) -> Survey:
        """Survey all entries of a run."""
        live = [each for each in entries if each.state in LIVE]
        ended = [each for each in entries if each.state not in LIVE]
        failed = [each for each in ended if each.stop is None and each.state != "completed"]
        return cls(
            unsettled=frozenset(uuid for each in live for uuid in (each.uuid, *each.holds)),
            failed=frozenset(each.uuid for each in failed),
            untried=frozenset(each.uuid for each in failed if each.state == "skipped"),
            stopped=frozenset(each.uuid for each in ended if each.stop is not None),
            run_stopped=any(each.stop == "run" for each in ended),
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


def ready(entries: Collection[Entry]) -> list[Entry]:
    """Return those of all jobs of a run that wait and may start now, in order of submission."""
    survey = Survey.of(entries)
    waiting = [entry for entry in entries if entry.state == "waiting"]
    settled = [entry for entry in waiting if not entry.parents & survey.unsettled]
    able = [entry for entry in settled if _skip(entry, survey) is None]
    return sorted(able, key=lambda entry: entry.order)


def skips(entries: Collection[Entry]) -> list[Skip]:
    """Return those of all jobs of a run that wait and will never run."""
    survey = Survey.of(entries)
    found = (_skip(entry, survey) for entry in entries if entry.state == "waiting")
    return [each for each in found if each]


def _skip(entry: Entry, survey: Survey) -> Skip | None:
    """Say why a waiting job will never run; None if it still may."""
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
    """Return the first jobs, in order, whose cores fit into those that are free.

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
