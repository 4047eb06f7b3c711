"""From the documents of earlier versions to those of today.

Every stored document says by `schema_version` how it is written. Whenever the way changes, the
version goes up by one, and the table `STEPS` gets the functions that lead there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ionloop.schemas.errors import IonloopError

Stored: TypeAlias = Mapping[str, Any]

SCHEMA_VERSION = 3
"""How documents are written today."""

_LOST_SEED = re.compile(r"the training .*?with seed (\d+) failed")


class NewerVersionError(IonloopError, RuntimeError):
    """A stored document was written by a later version of ionloop."""


def migrated(kind: str, stored: Stored) -> dict[str, Any]:
    """Return a document as today's version would have written it.

    Parameters
    ----------
    kind
        Name of its class.
    stored
        Its fields, with `schema_version`; without it they count as today's.

    Raises
    ------
    NewerVersionError
        If a later version wrote it.
    """
    version = stored.get("schema_version", SCHEMA_VERSION)
    refuse_newer(version, f"a stored {kind}")
    fields = dict(stored)
    for number in range(version, SCHEMA_VERSION):
        step = STEPS[number].get(kind, dict)
        fields = {**step(fields), "schema_version": number + 1}
    return fields


def refuse_newer(version: int, what: str) -> None:
    """Raise if a version is later than today's.

    Parameters
    ----------
    version
        The schema version that was found.
    what
        What has it, for the message.

    Raises
    ------
    NewerVersionError
        Saying what to do.
    """
    if version > SCHEMA_VERSION:
        raise NewerVersionError(
            f"{what} has schema version {version}, and this ionloop reads versions up to "
            f"{SCHEMA_VERSION}: a later ionloop wrote it; upgrade ionloop (pip install -U ionloop)"
        )


def _label_of_1(stored: Stored) -> dict[str, Any]:
    """Give an accepted label its calculation: version 0.1 kept only what was without fault."""
    sound = stored.get("calculation") is None and stored.get("reason") is None
    return {**stored, "calculation": {}} if sound else dict(stored)


def _ensemble_of_1(stored: Stored) -> dict[str, Any]:
    """Give every model of an ensemble its member number, where the document tells it.

    The seeds follow each other from member to member, and the sentences on lost trainings name
    the seeds of those: where the two account for all that were asked for, they tell the numbers.
    """
    seeds = stored["seeds"]
    lost = [int(found[1]) for t in stored.get("failures", ()) if (found := _LOST_SEED.match(t))]
    asked = sorted({*seeds, *lost})
    if stored.get("numbers") or len(asked) != stored["n_asked"]:
        return dict(stored)
    return {**stored, "numbers": [asked.index(seed) for seed in seeds]}


def _run_of_1(stored: Stored) -> dict[str, Any]:
    """Leave out the resources of a role that never had a job."""
    run_file = dict(stored["run_file"])
    resources = run_file.get("resources") or {}
    if "transport" in resources:
        run_file["resources"] = {k: v for k, v in resources.items() if k != "transport"}
    return {**stored, "run_file": run_file}


STEPS: dict[int, dict[str, Callable[[Stored], dict[str, Any]]]] = {
    1: {"EnsembleDoc": _ensemble_of_1, "LabelDoc": _label_of_1, "RunDoc": _run_of_1},
    2: {},
}
"""By version: what leads a document of a class to the next version; others stay as they are.

From 1 to 2: a training may have lost its checkpoint to `ionloop store prune`. From 2 to 3: a
training may name the universal potential it began with, an ensemble its teacher.
"""
