"""Import labels from outside, and drop labels from a store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ionloop.jobs.label import external as label_external
from ionloop.jobs.label.external import Imported
from ionloop.jobs.label.ledger import Ledger
from ionloop.monitor.records import find_run
from ionloop.runfile.sections.external import ExternalSection
from ionloop.runs.records import stored_run_file
from ionloop.schemas.errors import InputError, IonloopError
from ionloop.schemas.label import LabelStatus
from ionloop.stores.connect import collection, open_store


class NothingNamedError(IonloopError, ValueError):
    """No criterion says which labels are meant."""


def import_labels(
    store_url: str,
    run: str,
    paths: Sequence[Path],
    fmt: str | None = None,
    check_units: bool = True,
) -> Imported:
    """Import finished calculations as labels of the frames that a run waits for.

    Parameters
    ----------
    store_url
        The store that the run is in.
    run
        Id of the run.
    paths
        Files, or folders of DeePMD data.
    fmt
        Format in the words of dpdata or ASE; worked out from each path when not given.
    check_units
        Take nothing from a file whose numbers look like those of other units.

    Raises
    ------
    UnknownRunError
        If there is no such run.
    InputError
        If the run's labels do not come from outside.
    """
    with closing(open_store(store_url)) as store:
        run_file = stored_run_file(store, find_run(store, run), store_url)
        if not isinstance(run_file.label, ExternalSection):
            raise InputError(
                f"run {run!r} calculates its labels itself (label.code: {run_file.label.code}); "
                "only a run with label.code: external takes labels from outside"
            )
        ledger = Ledger(collection(store, "labels"))
        return label_external.import_labels(ledger, run_file.label, run, paths, fmt, check_units)


def forget_labels(
    store_url: str,
    *,
    run: str | None = None,
    frames: Sequence[str] = (),
    level: str | None = None,
    reason: str | None = None,
    accepted: bool = False,
    really: bool = False,
) -> list[dict[str, Any]]:
    """Find labels to drop, and drop them only if asked to.

    Parameters
    ----------
    store_url
        The store.
    run
        Only labels that this run asked for first.
    frames
        Only labels of these frames: ids, or their first characters.
    level
        Only labels at the level of theory with this hash.
    reason
        Only labels that were rejected for this reason.
    accepted
        Accepted labels too.
    really
        Drop them.

    Returns
    -------
    list of dict
        What was dropped, or would be: key, verdict, run, description of the level, cost.

    Raises
    ------
    NothingNamedError
        If neither run, frames, level nor reason say which.
    """
    named = {"run": run, "level": level, "reason": reason}
    criteria: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if frames:
        criteria["frame_id"] = {"$regex": f"^({'|'.join(map(re.escape, frames))})"}
    if not criteria:
        raise NothingNamedError("say which labels: --run, --frame, --level or --reason")
    if not accepted:
        criteria["status"] = LabelStatus.REJECTED.value
    wanted = ["label_id", "status", "reason", "run", "level_words", "seconds", "cores"]
    with closing(open_store(store_url, read_only=not really)) as store:
        labels = collection(store, "labels")
        found = [{key: each.get(key) for key in wanted} for each in labels.query(criteria, wanted)]
        if really:
            labels.remove_docs({"label_id": {"$in": [each["label_id"] for each in found]}})
    return found
