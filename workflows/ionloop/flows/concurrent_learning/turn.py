"""One turn of the loop: train, explore, select, label, compare; then decide what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobflow import Flow, Job, Response

from ionloop.flows.concurrent_learning.accounts import TurnResults, after_turn, iteration_document
from ionloop.flows.concurrent_learning.decision import decide, next_progress
from ionloop.flows.concurrent_learning.settings import Loop
from ionloop.flows.references import References, references
from ionloop.jobs.documents import collecting_job, stamp
from ionloop.jobs.label.accounts import outstanding
from ionloop.jobs.label.batches import await_quorum
from ionloop.jobs.placement import Role, assign
from ionloop.jobs.roles import Reference
from ionloop.schemas.errors import InputError
from ionloop.schemas.iteration import Action, StageProgress
from ionloop.schemas.label import Labels


@dataclass(frozen=True)
class TurnReferences(References):
    """What the steps of a turn gave, by reference; `TurnResults` holds the documents."""

    ensemble: Reference
    exploration: Reference
    selection: Reference
    labels: Reference
    evaluation: Reference
    joined: Reference = None
    late: Reference = None


def build_turn(
    loop: Loop,
    structures: Reference,
    dataset: list[Reference],
    previous: TurnReferences | None,
    progress: StageProgress,
    late: Sequence[str] = (),
) -> Flow:
    """Build one turn: train, explore, select, label, compare, decide.

    Parameters
    ----------
    loop
        Roles and settings.
    structures
        Start structures, or a reference to them.
    dataset
        References to all `Labels` so far.
    previous
        What the turn before gave, if there was one.
    progress
        Where the run is.
    late
        Ids of frames whose labels were late in earlier turns; they join the data set first.
    """
    stage = loop.stages[progress.stage]
    seed = loop.seed + 1000 * (progress.index + 1)
    join = [loop.join_late(late)] if late else []
    dataset = [*dataset, *(job.output for job in join)]
    # The first turn of a stage begins afresh: the last stage may have had another cell.
    continues = stage.start == "continued" and progress.turn_of_stage > 0

    train = loop.train.make(dataset, previous.ensemble if previous else None, seed)
    before = previous.exploration if continues and previous else None
    trust = stage.trust or loop.trust
    explore = loop.explore.make(train.output, stage, structures, trust, seed, before)
    select = loop.select.make(explore.output, dataset, loop.max_labels(progress), seed)
    label = loop.label.make(select.output.picked)
    compare = loop.train.evaluate(train.output, label.output)
    steps: list[Flow | Job] = [train, explore, select, label, compare]
    results = TurnReferences(*(step.output for step in (*steps, *join)))
    conclude = conclude_turn(loop, structures, dataset, results, progress)
    return _as_flow([*join, *steps], conclude, progress)


def _wait_for_late(
    loop: Loop,
    structures: Reference,
    dataset: list[Reference],
    results: TurnReferences,
    progress: StageProgress,
    late: Sequence[str],
) -> Flow:
    """Build the end of the last turn: late labels join before it is concluded."""
    wait = await_quorum(loop.label.level, list(late), len(late), n_batches=0)
    assign(wait, Role.LABEL, f"wait for {len(late)} late labels", cores=0, bookkeeping=True)
    join = loop.join_late(late, wait.output)
    results = replace(results, late=join.output)
    conclude = conclude_turn(loop, structures, [*dataset, join.output], results, progress)
    return _as_flow([wait, join], conclude, progress)


def _as_flow(steps: list[Flow | Job], conclude: Job, progress: StageProgress) -> Flow:
    for step in steps:
        step.update_metadata({"iteration": progress.index}, dynamic=True)
    assign(conclude, Role.DECIDE, f"conclude turn {progress.index}", bookkeeping=True)
    conclude.update_metadata({"iteration": progress.index}, dynamic=False)
    return Flow([*steps, conclude], output=conclude.output, name=f"turn {progress.index}")


@collecting_job()
def begin_loop(maker: Loop, structures: Any, dataset: list[Any]) -> Response[Any]:
    """Begin the first turn, with the initial labels counted.

    Parameters
    ----------
    maker
        Roles and settings.
    structures
        Start structures, or a reference to them.
    dataset
        References to the initial `Labels`.

    Raises
    ------
    ValueError
        If there is nothing to train on.
    """
    loop = maker.in_force()
    labels: list[Labels] = [part.value for part in dataset]
    if not any(part.n_accepted for part in labels):
        raise InputError(
            "there are no initial labels: set initial.n_perturbed or initial.data in the run file"
        )
    progress = StageProgress(
        n_labels=sum(part.n_requested for part in labels),
        core_hours=sum(part.core_seconds for part in labels) / 3600,
    )
    late = outstanding(labels)
    turn = build_turn(loop, references(structures), references(dataset), None, progress, late)
    return Response(replace=turn)


@collecting_job()
def conclude_turn(
    maker: Loop,
    structures: Any,
    dataset: list[Any],
    results: TurnReferences | dict[str, Any],
    progress: StageProgress,
) -> Response[Any]:
    """Describe the turn, decide what follows, and begin it.

    If labels are late in the last turn, the job waits for them, since no later turn can take them.

    Parameters
    ----------
    maker
        Roles and settings.
    structures
        Start structures, or a reference to them.
    dataset
        References to all `Labels` before this turn's.
    results
        What the steps of the turn gave; a dictionary in jobs of version 0.1.
    progress
        Where the run was at the beginning of the turn.
    """
    loop = maker.in_force()
    steps = TurnReferences.of(results)
    turn = TurnResults(**steps.values)
    labels = [*(part.value for part in dataset), turn.labels]
    late = outstanding(labels)
    counted = after_turn(progress, turn, len(late))
    decision = decide(counted, loop.stages, loop.convergence, loop.limits, loop.validation.n_labels)
    is_last = decision.action in (Action.CONVERGED, Action.STOP)
    starts, earlier, given = references(structures), references(dataset), steps.without_values()
    if is_last and late and turn.late is None:
        return Response(replace=_wait_for_late(loop, starts, earlier, given, progress, late))
    known = [*earlier, given.labels]
    document = iteration_document(
        turn, counted, decision, labels, loop.train.validation_fraction, loop.initial.allow_mixed
    ).model_copy(
        update={
            **stamp(),
            "labels": known,
            "ensemble": given.ensemble,
            "jobs": {name: reference.uuid for name, reference in given.by_name.items()},
        }
    )
    if is_last:
        return Response(output=document)
    following = next_progress(counted, decision.action)
    turn_after = build_turn(loop, starts, known, given, following, late)
    return Response(output=document, replace=turn_after)
