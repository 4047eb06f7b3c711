"""Tolerances: what may be changed in the run file of a run that has begun.

Where and how a run computes, and how much may go wrong, may change from one attempt to the next.
What it computes may not: nobody could say which settings the results of such a run belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from datetime import UTC, datetime
from typing import Any

from ionloop.runfile.model import RunFile
from ionloop.schemas.errors import IonloopError
from ionloop.schemas.run import Change, RunDoc

_PROGRAMS = frozenset({"command", "vasp_cmd", "vasp_gamma_cmd", "device", "cores", "per_gpu"})

TOLERANCES: Mapping[str, Set[str]] = {
    "label": _PROGRAMS
    | {"floor", "allowance", "quorum", "limits", "batch_size", "timeout", "frozen_after"}
    | {"max_errors", "max_scf_steps"},
    "train": _PROGRAMS | {"min_models"},
    "production": _PROGRAMS | {"min_models"},
    "explore": _PROGRAMS | {"floor", "batch_size", "stall_timeout"},
    "production.teacher.explore": {"command", "device", "floor", "batch_size", "stall_timeout"},
}

WHOLE = {"store", "scratch", "keep", "cores", "launchpad", "project", "resources", "limits"}
"""Sections of which every key may change."""


FORMER: Mapping[str, float] = {
    "learning_rate_start": 1e-3,
    "learning_rate_stop": 3.5e-8,
    "warm_learning_rate": 1e-4,
}
"""What keys of `train` meant up to schema version 2 where the run file left them out."""


class OtherSettingsError(IonloopError, ValueError):
    """A run was started with other settings, of a kind that may not change."""


def changes(document: RunDoc, stored: RunFile, given: RunFile) -> list[Change]:
    """Return what another run file changes for a run that has begun.

    Parameters
    ----------
    document
        The record of the run.
    stored
        The run file that is in force.
    given
        The run file to take over.

    Raises
    ------
    OtherSettingsError
        If it changes what defines the run's results; the message names the keys and what to do.
    """
    now = datetime.now(UTC)
    found = [
        Change(time=now, key=key, before=before, after=after)
        for key, before, after in differences(_content(stored), _content(given))
    ]
    refused = [change for change in found if not may_change(change.key)]
    if refused:
        raise OtherSettingsError(_refusal(document.run, refused))
    return found


def as_begun(stored: RunFile, given: RunFile) -> RunFile:
    """Return a run file that leaves open what an earlier version filled in as that did.

    A learning rate that is left open is chosen from the steps today; a run that began with the
    fixed one of its version goes on with it.

    Parameters
    ----------
    stored
        The run file that is in force.
    given
        The run file to take over.
    """
    kept = {
        key: value
        for key, value in FORMER.items()
        if getattr(given.train, key, value) is None and getattr(stored.train, key, None) == value
    }
    train = given.train.model_copy(update=kept)
    return given.model_copy(update={"train": train}) if kept else given


def may_change(key: str) -> bool:
    """Tell whether a key, such as ``label.floor``, may change after the run has begun."""
    if key.partition(".")[0] in WHOLE:
        return True
    return any(
        key.removeprefix(f"{section}.").partition(".")[0] in names
        for section, names in TOLERANCES.items()
        if key.startswith(f"{section}.")
    )


def differences(before: Any, after: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the key of every value that differs, and both values; None where there is none.

    Parameters
    ----------
    before, after
        Plain values: mappings, sequences, numbers, words.
    key
        Key of the values themselves.

    Examples
    --------
    >>> list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}))
    [('a.b', 1, 3)]
    >>> list(differences({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}))
    [('a[1].b', 2, 3)]
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in dict.fromkeys([*before, *after]):
            inner = f"{key}.{name}" if key else str(name)
            yield from differences(before.get(name), after.get(name), inner)
    elif _are_sections(before) and _are_sections(after) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{key}[{number}]")
    elif before != after:
        yield key, before, after


def _are_sections(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _content(run_file: RunFile) -> dict[str, Any]:
    # The store is where the run was found, and a run stays with the engine that has its jobs.
    content = run_file.model_dump(mode="json", exclude={"store", "runner"})
    if not run_file.validation.temperatures:
        return content | {"validation": {}}
    # What a validation takes from the last stage may be given or not: it does the same.
    content["validation"] |= run_file.validation.conditions(run_file.stages[-1])
    return content


def _refusal(run: str, refused: list[Change]) -> str:
    words = ", ".join(change.description for change in refused)
    that = "that" if len(refused) == 1 else "those"
    return (
        f"run {run!r} was started with other settings ({words}), and {that} cannot change after "
        f"the start: undo the change, continue as before with: ionloop resume {run}, or give the "
        "new run another name; it uses the labels of this one in the store"
    )
