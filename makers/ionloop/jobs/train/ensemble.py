"""The account of an ensemble: which models there are, and which trainings were lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ionloop.jobs.documents import collecting_job, stamp
from ionloop.jobs.roles import FloorError
from ionloop.jobs.tolerances import changed
from ionloop.schemas.potential import EnsembleDoc, LostTraining, StoredFile, TrainingDoc

LOST = "the last ensemble has no such model"


def kept(
    outcomes: Sequence[TrainingDoc | BaseException], seeds: Sequence[int]
) -> list[TrainingDoc | LostTraining]:
    """Return the trainings that succeeded, and a `LostTraining` in the place of each other one.

    Parameters
    ----------
    outcomes
        For each training its document, or what it raised.
    seeds
        The seed of each.

    Raises
    ------
    Exception
        The first failure, if nothing succeeded.
    """
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if len(failures) == len(outcomes):
        raise failures[0]
    return [
        LostTraining(seed=seed, reason=str(outcome))
        if isinstance(outcome, BaseException)
        else outcome
        for seed, outcome in zip(seeds, outcomes, strict=True)
    ]


@collecting_job(EnsembleDoc, tolerant=True)
def collect_ensemble(min_models: int, seeds: list[int], members: list[Any]) -> EnsembleDoc:
    """Gather the models that were trained.

    Parameters
    ----------
    min_models
        Models that must be there.
    seeds
        Seeds of the models that were asked for.
    members
        References to the outputs of their trainings, one per seed.

    Raises
    ------
    FloorError
        If fewer than `min_models` were.
    """
    min_models = changed().get("min_models", min_models)
    numbers = [n for n, member in enumerate(members) if isinstance(member.value, TrainingDoc)]
    done = [members[number] for number in numbers]
    if len(done) < min_models:
        raise FloorError(
            f"{len(done)} of {len(seeds)} trainings succeeded, at least {min_models} must "
            "(train.min_models); the log of a failed training is in its job's record"
        )
    documents: list[TrainingDoc] = [member.value for member in done]
    return EnsembleDoc(
        **stamp(),
        kind=documents[0].kind,
        n_asked=len(seeds),
        members=[member.reference for member in done],
        numbers=numbers,
        seeds=[document.seed for document in documents],
        failures=[
            f"the training of model {n + 1} with seed {seeds[n]} failed{_reason(member.value)}"
            for n, member in enumerate(members)
            if n not in numbers
        ],
        notes=scratch_notes(numbers, [document.obstacle for document in documents]),
        train_errors=[document.train_errors for document in documents],
        validation_errors=[d.validation_errors for d in documents if d.validation_errors],
        core_seconds=sum(document.seconds * document.cores for document in documents),
    )


def scratch_notes(numbers: Sequence[int], obstacles: Sequence[str]) -> list[str]:
    """Say which models started from scratch although they should not have, a sentence per reason.

    Parameters
    ----------
    numbers
        Numbers of the models, from 0.
    obstacles
        For each model what prevented its warm start; empty if nothing did.
    """
    groups: dict[str, list[str]] = {}
    for number, obstacle in zip(numbers, obstacles, strict=True):
        groups.setdefault(obstacle, []).append(str(number + 1))
    return [
        f"model {', '.join(models)} of this training started from scratch: {obstacle}"
        for obstacle, models in groups.items()
        if obstacle
    ]


def _reason(lost: LostTraining | None) -> str:
    return f": {lost.reason.splitlines()[0]}" if lost and lost.reason else ""


def previous_checkpoint(
    previous: EnsembleDoc | None, number: int, n_models: int
) -> StoredFile | None:
    """Return the checkpoint that a model starts from: that of the same member, if there is one.

    The checkpoint of another member is not used: two models with a common origin agree for that
    reason alone, and their deviation says nothing. A model that is trained alone has no other to
    agree with; if its own predecessor is missing, it starts from the first that there is.

    Parameters
    ----------
    previous
        Ensemble of the last turn, if any.
    number
        Number of the model, from 0.
    n_models
        Models of the new ensemble.
    """
    if previous is None:
        return None
    checkpoints: list[StoredFile | None] = [member.checkpoint for member in previous.members]
    of_members = dict(zip(previous.numbers, checkpoints, strict=False))
    return of_members.get(number, checkpoints[0] if n_models == 1 else None)
