"""What a store holds and nothing needs any more, and how it is removed.

A training starts from the checkpoints of the turn before. Once the turn after has all of its
models, its own checkpoints serve instead, and those before it are only weight: most of the file
of an embedded store. Labels, models, frames and tables stay, and so does every document.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

from jobflow.core.store import JobStore
from pydash import chunk

from ionloop.schemas.process import lives
from ionloop.schemas.run import RunState, engine_name
from ionloop.stores.connect import LoopStore, blob_sizes, collection
from ionloop.stores.contents import blobs_of
from ionloop.stores.errors import StoreError
from ionloop.stores.sqlite import SqliteStore

_AT_ONCE = 500


class RunningError(StoreError):
    """A run is at work on the store; what looks unused may be of a job that is about to end."""


@dataclass(frozen=True)
class Ensemble:
    """What decides whether the checkpoints before an ensemble are needed.

    Attributes
    ----------
    run
        Id of the run.
    turn
        Turn of the loop, counted from 0; None for the production.
    n_asked, n_models
        Models that were to be trained, and that there are.
    """

    run: str
    turn: int | None
    n_asked: int
    n_models: int


@dataclass(frozen=True)
class Removal:
    """What can be removed.

    Attributes
    ----------
    outputs
        Outputs of jobs (uuid and index) whose trainings lose their checkpoints.
    checkpoints
        Size of the checkpoints in bytes, by the uuid of the blob.
    unused
        Size in bytes of the blobs that no document refers to, by uuid.
    """

    outputs: list[tuple[str, int]]
    checkpoints: dict[str, int]
    unused: dict[str, int]

    @property
    def size(self) -> int:
        """All of it, in bytes."""
        return sum(self.checkpoints.values()) + sum(self.unused.values())


def replaced(ensembles: Iterable[Ensemble], ended: Collection[str]) -> set[tuple[str, int]]:
    """Return the turns (run, turn) whose checkpoints no training can start from any more.

    Those are the turns before one that has all of its models: if one is missing, its training may
    be tried again, and starts from the turn before. The last turn is replaced by a production that
    has all of its models, once the run has ended. The production's own checkpoints stay.

    Parameters
    ----------
    ensembles
        Of any number of runs.
    ended
        Ids of the runs that have come to their end.
    """
    of_runs: dict[str, dict[int | None, bool]] = defaultdict(dict)
    for each in ensembles:
        is_whole = of_runs[each.run]
        is_whole[each.turn] = is_whole.get(each.turn, True) and each.n_models >= each.n_asked
    found = set()
    for run, is_whole in of_runs.items():
        turns = sorted(turn for turn in is_whole if turn is not None)
        found |= {(run, a) for a, b in pairwise(turns) if is_whole[b]}
        if turns and run in ended and is_whole.get(None):
            found.add((run, turns[-1]))
    return found


def removable(
    documents: Sequence[Mapping[str, Any]], sizes: Mapping[str, int], ended: Collection[str]
) -> Removal:
    """Find what nothing needs any more.

    Parameters
    ----------
    documents
        All documents that can refer to blobs: outputs of jobs and entries of the journal.
    sizes
        Bytes of every blob, by its uuid.
    ended
        Ids of the runs that have come to their end.
    """
    turns = replaced(_ensembles(documents), ended)
    outputs, gone, needed = [], set[str](), set[str]()
    for document in documents:
        checkpoints = [each.get("checkpoint") for each in trainings(document)]
        old = _blobs(checkpoints) if _turn(document) in turns else set()
        if old:
            outputs.append((document["uuid"], document["index"]))
        gone |= old
        needed |= _blobs(document) - old
    return Removal(
        outputs=outputs,
        checkpoints={uuid: sizes[uuid] for uuid in gone - needed if uuid in sizes},
        unused={uuid: size for uuid, size in sizes.items() if uuid not in needed | gone},
    )


def trainings(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the trainings that the output of a job consists of."""
    output = document.get("output")
    for part in output if isinstance(output, list) else [output]:
        if isinstance(part, dict) and part.get("@class") == "TrainingDoc":
            yield part


def find_removable(store: JobStore) -> Removal:
    """Find what nothing in a store needs any more; nothing is changed."""
    # Blobs first: those that are written from now on are not looked at.
    sizes = blob_sizes(store)
    documents = [*store.docs_store.query(), *collection(store, "jobs").query()]
    return removable(documents, sizes, _ended(store))


def remove(store: LoopStore, removal: Removal) -> None:
    """Remove what nothing needs, and give the space back to the disk.

    Parameters
    ----------
    store
        A store that is open to write.
    removal
        What to remove.

    Raises
    ------
    RunningError
        If a run is at work.
    StoreError
        If an embedded store cannot shrink now; what was removed stays removed.
    """
    refuse_running(store)
    outputs = store.docs_store
    for uuid, index in removal.outputs:
        document = outputs.query_one({"uuid": uuid, "index": index})
        if document is not None:
            document.pop("_id", None)
            for training in trainings(document):
                training["checkpoint"] = None
            outputs.update(document, key=["uuid", "index"])
    # The reference goes before the blob: what is left by a kill in between is unused.
    for some in chunk([*removal.checkpoints, *removal.unused], _AT_ONCE):
        collection(store, "data").remove_docs({"blob_uuid": {"$in": some}})
    if isinstance(outputs, SqliteStore):
        try:
            outputs.file.compact()
        except StoreError as error:
            raise StoreError(
                f"it was removed, but the file does not get smaller now: {error} The space is "
                "free to write to; the next `ionloop store prune --yes` gives it back."
            ) from error


def refuse_running(store: JobStore) -> None:
    """Raise if a run is at work on a store.

    Raises
    ------
    RunningError
        Naming the run.
    """
    ended = _ended(store)
    for run in collection(store, "runs").query():
        if is_at_work(run, run["run"] in ended):
            raise RunningError(
                f"run {run['run']!r} is at work on this store: prune when it has ended, or was "
                "interrupted or cancelled"
            )


def is_at_work(run: Mapping[str, Any], ended: bool) -> bool:
    """Whether jobs of a run may be running.

    A run of a queue counts as at work until it has ended or is cancelled: only the queue knows.

    Parameters
    ----------
    run
        Its stored document.
    ended
        Whether it has come to its end.
    """
    runner = run.get("runner")
    if isinstance(runner, Mapping) and lives(runner):
        return True
    return engine_name(run) != "local" and not ended and run.get("state") == RunState.RUNNING


def _ended(store: JobStore) -> set[str]:
    found = store.docs_store.query({"output.@class": "SummaryDoc"}, properties=["metadata.run"])
    return {cast("str", each["metadata"].get("run")) for each in found}


def _ensembles(documents: Iterable[Mapping[str, Any]]) -> Iterator[Ensemble]:
    for document in documents:
        output, (run, turn) = document.get("output"), _turn(document)
        if run and isinstance(output, Mapping) and output.get("@class") == "EnsembleDoc":
            yield Ensemble(run, turn, output["n_asked"], len(output["members"]))


def _turn(document: Mapping[str, Any]) -> tuple[str, int | None]:
    metadata = document.get("metadata") or {}
    return metadata.get("run") or "", metadata.get("iteration")


def _blobs(part: Any) -> set[str]:
    return {uuid for uuid, _ in blobs_of(part)}
