"""What a run has stored, as exports need it."""

from __future__ import annotations

from typing import Any

from jobflow import JobStore

from ionloop.schemas.label import Labels, LevelOfTheory


def stored_outputs(store: JobStore, run: str, schema: str, *iteration: int | None) -> list[Any]:
    criteria: dict[str, Any] = {"metadata.run": run, "output.@class": schema}
    if iteration:
        criteria["metadata.iteration"] = iteration[0]
    return [document["output"] for document in store.query(criteria, properties=["output"])]


def level_words(store: JobStore, run: str) -> str:
    return " and ".join(sorted({level.words for level in stored_levels(store, run)}))


def stored_levels(store: JobStore, run: str) -> list[LevelOfTheory]:
    """Return the levels of theory of a run's labels, each once."""
    levels = [Labels.from_stored(each).level for each in stored_outputs(store, run, "Labels")]
    return list({level.hash: level for level in levels}.values())
