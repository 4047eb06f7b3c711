"""The pre-flight check of the store: whether it can be written, and which labels it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing

from ionloop.preflight.findings import Finding, error, ok, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.runfile.sections.base import LabelSection
from ionloop.schemas.label import LabelStatus
from ionloop.stores.connect import LoopStore, collection, describe, open_store
from ionloop.stores.errors import EmptyStoreError, StoreError

ACCEPTED = {"status": LabelStatus.ACCEPTED.value}


def look_at_store(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the store can be reached and written; a file is not created.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    file = run_file.store_file
    if file is None or (file.exists() and os.access(file, os.W_OK)):
        yield from _look_into_store(run_file)
    elif file.exists():
        yield error("store", f"{file} is not writable", "name another place")
    elif not file.parent.exists():
        yield error("store", f"the folder {file.parent} does not exist", "create it")
    elif not os.access(file.parent, os.W_OK):
        yield error("store", f"{file.parent} is not writable", "name another place")
    else:
        yield ok("store", f"{file} will be created")


def _look_into_store(run_file: RunFile) -> Iterator[Finding]:
    try:
        with closing(open_store(run_file.store, read_only=True)) as store:
            yield ok("store", f"{describe(store)} is there")
            yield from _look_at_doubtful_labels(run_file.label, store)
            yield from _look_at_other_levels(run_file.label, store)
    except EmptyStoreError:  # perhaps because another run has just created it
        yield ok("store", f"{run_file.store_file} is empty: nothing is stored yet")
    except StoreError as problem:
        yield error("store", str(problem))


def _look_at_doubtful_labels(section: LabelSection, store: LoopStore) -> Iterator[Finding]:
    keys = section.doubtful_keys
    criteria = {"level": {"$in": keys}, **ACCEPTED}
    if n := collection(store, "labels").count(criteria) if keys else 0:
        sentence = (
            f"{n} labels of version 0.1 are not taken: they may be of this level of theory, but "
            "their key does not say all that decides it"
        )
        cure = (
            "if you know that they are of it, export their run's data set (ionloop export RUN "
            "dataset) and name it in initial.data with same_level: true"
        )
        yield warning("label", sentence, cure)


def _look_at_other_levels(section: LabelSection, store: LoopStore) -> Iterator[Finding]:
    """Say which labels of the same code are there and will not be taken."""
    try:
        level = section.maker().level
    except (ImportError, OSError, ValueError, RuntimeError):  # said where the labeller is looked at
        return
    labels = collection(store, "labels")
    for found in labels.distinct("level"):
        criteria = {**ACCEPTED, "level": found}
        one = labels.query_one(criteria, properties=["level_words", "species"])
        if one is None or not level.is_same_code(one.get("level_words", "")):
            continue
        if found in [*level.keys(one["species"]), *section.doubtful_keys]:
            continue
        sentence = (
            f"the store has {labels.count(criteria)} labels at {one['level_words']}, which are not "
            "taken: nothing proves that this is the level of this run"
        )
        yield ok("label", sentence)
