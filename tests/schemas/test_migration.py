"""Stored documents of earlier versions are read, those of later ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from monty.json import MontyDecoder
from pydantic import ValidationError

from ionloop.schemas.dataset import DatasetDoc
from ionloop.schemas.document import Document
from ionloop.schemas.migration import SCHEMA_VERSION, STEPS, NewerVersionError, migrated
from ionloop.schemas.potential import EnsembleDoc
from ionloop.schemas.run import RunDoc
from ionloop.stores.connect import collection, open_store

DATASET = {"level": "l", "training": ["a"], "validation": [], "sha256": "s"}
ENSEMBLE = {"n_asked": 2, "members": [], "seeds": [7, 8], "schema_version": 1}
RUN: dict[str, Any] = {
    "run": "r",
    "name": "r",
    "run_file": {"resources": {"transport": {}, "train": {"queue": "q"}}},
    "started": "2026-01-01T00:00:00Z",
    "state": "completed",
    "host": "h",
}


def test_there_is_a_step_from_every_version_to_the_next() -> None:
    assert sorted(STEPS) == list(range(1, SCHEMA_VERSION))
    kinds = {kind.__name__ for kind in kinds_of(Document)}
    assert all(set(of_version) <= kinds for of_version in STEPS.values())


def kinds_of(kind: type[Document]) -> list[type[Document]]:
    import ionloop.schemas.label  # noqa: F401 (defines documents)

    return [each for sub in kind.__subclasses__() for each in [sub, *kinds_of(sub)]]


def test_new_documents_have_todays_version() -> None:
    assert DatasetDoc(**DATASET).schema_version == SCHEMA_VERSION
    assert DatasetDoc.from_stored(DATASET).schema_version == SCHEMA_VERSION


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_document_of_any_version_so_far_is_read(version: int) -> None:
    stored = DATASET | {"schema_version": version}
    assert DatasetDoc.from_stored(stored) == DatasetDoc(**DATASET)


def test_steps_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(letter: str) -> Any:
        return lambda stored: {**stored, "text": stored["text"] + letter}

    steps = {1: {"Doc": add("b")}, 2: {}, 3: {"Doc": add("c"), "Other": add("x")}}
    monkeypatch.setattr("ionloop.schemas.migration.STEPS", steps)
    monkeypatch.setattr("ionloop.schemas.migration.SCHEMA_VERSION", 4)
    assert migrated("Doc", {"schema_version": 1, "text": "a"})["text"] == "abc"
    assert migrated("Doc", {"schema_version": 2, "text": "a"})["text"] == "ac"
    assert migrated("Doc", {"text": "a"}) == {"text": "a"}


def test_the_stored_dictionary_stays_as_it_is() -> None:
    stored = RUN | {"schema_version": 1}
    assert "transport" not in RunDoc.from_stored(stored).run_file["resources"]
    assert "transport" in stored["run_file"]["resources"]


def test_resources_of_the_role_without_jobs_are_taken_for_an_error_today() -> None:
    assert RunDoc.from_stored(RUN).run_file == RUN["run_file"]
    old = RunDoc.from_stored(RUN | {"schema_version": 1})
    assert old.run_file == {"resources": {"train": {"queue": "q"}}}


def test_a_document_that_a_job_is_given_is_migrated_too() -> None:
    reference = {"@module": "ionloop.schemas.potential", "@class": "EnsembleDoc"}
    decoded = MontyDecoder().process_decoded({**reference, **ENSEMBLE})
    assert isinstance(decoded, EnsembleDoc)
    assert (decoded.numbers, decoded.schema_version) == ([0, 1], SCHEMA_VERSION)


def test_a_newer_document_is_refused_with_a_sentence() -> None:
    newer = DATASET | {"schema_version": SCHEMA_VERSION + 1, "more": 1}
    sentence = rf"a stored DatasetDoc has schema version {SCHEMA_VERSION + 1}.*upgrade ionloop"
    with pytest.raises(NewerVersionError, match=sentence):
        DatasetDoc.from_stored(newer)
    with pytest.raises(NewerVersionError, match=sentence):
        DatasetDoc(**newer)


def test_a_document_of_today_with_an_unknown_field_is_still_refused() -> None:
    with pytest.raises(ValidationError, match="more"):
        DatasetDoc.model_validate(DATASET | {"more": 1})


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_with_a_newer_run_is_refused(tmp_path: Any, read_only: bool) -> None:
    url = tmp_path / "ionloop.db"
    store = open_store(url)
    collection(store, "runs").update({**RUN, "schema_version": SCHEMA_VERSION + 1})
    store.close()
    with pytest.raises(NewerVersionError, match=f"store {url} has schema version .* upgrade"):
        open_store(url, read_only=read_only)
