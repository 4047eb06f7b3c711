"""Tolerances that were changed after a run began: the values that a job uses when it runs.

A job carries the settings of the time when it was created. The tolerances among them may be changed
while it waits, or after it failed because of one. The record of the run in the store holds the
current values, and every job reads them when it begins, in whichever engine it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import reduce
from typing import Any, TypeVar

from jobflow import CURRENT_JOB

from ionloop.jobs.context import metadata, run_store
from ionloop.jobs.placement import PART, PRODUCTION
from ionloop.schemas.document import Model
from ionloop.stores.connect import collection
from ionloop.stores.errors import StoreError

Settings = TypeVar("Settings")


def in_force(settings: Settings, part: str | None = None) -> Settings:
    """Return settings with the tolerances of the current job's run as they are now.

    Parameters
    ----------
    settings
        A Maker, or the settings of a code.
    part
        Part of the run file that they come from; by default that of the current job.

    Raises
    ------
    pydantic.ValidationError
        If a current value is not valid for these settings.
    """
    return updated(settings, changed(part))


def changed(part: str | None = None) -> dict[str, Any]:
    """Return the tolerances of a part of the run file that were changed since the run began.

    Parameters
    ----------
    part
        Label, train, explore, production or limits, or a section within one, such as
        production.teacher.explore; by default that of the current job.

    Returns
    -------
    dict
        Values by key; empty if none was changed, or if the job cannot reach the store of the run:
        it then uses the values that it carries.
    """
    run = metadata().get("run")
    if run is None or CURRENT_JOB.store is None:
        return {}
    try:
        runs = collection(run_store(), "runs")
        document = runs.query_one({"run": run}, properties=["run_file", "changes"]) or {}
    except StoreError:
        return {}
    keys = {tuple(change["key"].split(".")) for change in document.get("changes") or []}
    here = part or metadata().get(PART) or str(metadata().get("role"))
    return _of_part(here, keys, document.get("run_file") or {})


def updated(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return a Maker, or the settings of a code, with new values for the keys that it has.

    Parameters
    ----------
    settings
        A Maker, or the settings of a code.
    values
        New values by key; others are ignored.
    """
    if not values:
        return settings
    if isinstance(settings, Model):
        own = {key: value for key, value in values.items() if key in type(settings).model_fields}
        return type(settings).model_validate({**dict(settings), **own}) if own else settings
    maker: Any = settings
    own = {field.name: values[field.name] for field in fields(maker) if field.name in values}
    if hasattr(maker, "settings"):
        own["settings"] = updated(maker.settings, values)
    changed_maker: Settings = replace(maker, **own)
    return changed_maker


def _of_part(part: str, keys: set[tuple[str, ...]], run_file: Mapping[str, Any]) -> dict[str, Any]:
    path = tuple(part.split("."))
    names = {key[len(path)] for key in keys if len(key) > len(path) and key[: len(path)] == path}
    section = reduce(lambda within, name: within[name], path, run_file) if names else {}
    values = {name: section[name] for name in names}
    if part != PRODUCTION:
        return values
    code, former = ((run_file.get(name) or {}).get("code") for name in (part, "train"))
    if code not in (None, former):
        return values
    # Production takes the keys of train that it does not set itself, except the number of models.
    of_train = {key for key in keys if key[:2] != ("train", "min_models")}
    shared = _of_part("train", of_train, run_file)
    return shared | {key: run_file[part][key] for key in shared if key in run_file[part]} | values
