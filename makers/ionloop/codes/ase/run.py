"""Run trajectories with an ensemble: one model drives each, all judge the frames that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from ionloop.codes.ase.ensemble import Ensemble, Outcome
from ionloop.codes.ase.settings import AseSettings
from ionloop.codes.ase.torchsim import BatchedEnsemble, why_not_batched
from ionloop.codes.ase.walker import Walker, read_trajectory, said
from ionloop.codes.common.acceptance import Calculated
from ionloop.codes.common.ase import without_known_warnings
from ionloop.codes.common.md import check_trajectories
from ionloop.codes.common.prediction import ensemble_deviation, ensemble_virial_deviation
from ionloop.codes.common.progress import plan_trajectory
from ionloop.codes.common.trajectory import Trajectory, TrajectoryTask
from ionloop.programs.resume_marker import clear_unless_same_work
from ionloop.schemas.potential import StoredFile

_NOT_THE_WORK = {"device", "batched", "restart_every"}
"""Settings with which interrupted trajectories may go on in another way."""


def run_trajectories(
    tasks: Sequence[TrajectoryTask],
    models: Sequence[StoredFile],
    settings: AseSettings,
    folder: Path,
    kind: str,
) -> list[Trajectory]:
    """Run trajectories in this process, one after another or as one batch.

    A trajectory that explodes, or whose potential fails, ends, and the others go on; the valid
    part of each is kept. In a folder where the same trajectories were interrupted, those that were
    over are not run again, and the others continue from their newest restart file. The results
    are the same as without the interruption; on a CPU and one after another, to the last bit.

    Parameters
    ----------
    tasks
        The trajectories; their indices differ.
    models
        Model files of the ensemble, two or more.
    settings
        Where the potentials compute, and when a trajectory has exploded.
    folder
        Working folder; it is created if it does not exist.
    kind
        Kind of the potentials, a key of `ionloop.codes.potentials.CALCULATORS` or an import path.

    Returns
    -------
    list[Trajectory]
        One per task, in their order. The frames of an exploded one may be none at all.

    Raises
    ------
    InputError
        If there are fewer than two models, indices repeat, a start is not one frame, nothing is
        known of the kind, the device is not there, or the potential lacks what is needed.
    """
    check_trajectories(tasks, models)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [
        model.write(folder, f"model-{number}{Path(model.name).suffix}")
        for number, model in enumerate(models)
    ]
    asked = [kind, settings.model_dump_json(exclude=_NOT_THE_WORK)]
    words = [*asked, *(task.model_dump_json() for task in tasks)]
    contents = [*(word.encode() for word in words), *(model.content for model in models)]
    clear_unless_same_work(folder, ["trajectory-*"], contents)
    for task in tasks:
        plan_trajectory(task.name, task.last_step, folder)
    walkers = [Walker.of(task, settings, folder, len(models)) for task in tasks]
    left = [walker for walker in walkers if not walker.ended]
    if left:
        with without_known_warnings():
            if why_not_batched(kind, settings):
                ensemble = Ensemble(kind, paths, settings.device)
                for walker in left:
                    _run([walker], ensemble)
            else:
                _run(left, BatchedEnsemble(kind, paths, settings.device, settings.batched))
    return [read_trajectory(task, settings, folder) for task in tasks]


def _run(walkers: Sequence[Walker], ensemble: Ensemble) -> None:
    """Run trajectories, all a step at a time, until each is over."""
    legs: list[int] = []
    for walker in walkers:
        walker.together = len(walkers)
    while going := [walker for walker in walkers if not walker.ended]:
        now = [walker.leg for walker in going]
        if now != legs:  # as a process does that continues from here
            ensemble.forget()
            legs = now
        for walker in going:
            walker.advance()
        for walker, outcome in _driven([each for each in going if not each.ended], ensemble):
            walker.accept(outcome)
        _judge([walker for walker in going if walker.keeps_frame], ensemble)


def _driven(walkers: Sequence[Walker], ensemble: Ensemble) -> Iterator[tuple[Walker, Outcome]]:
    """Yield trajectories, and what their driving models say."""
    ordered = sorted(walkers, key=lambda walker: walker.driver)
    for number, group in groupby(ordered, key=lambda walker: walker.driver):
        together = list(group)
        outcomes = ensemble.evaluate(number, [walker.atoms for walker in together])
        yield from zip(together, outcomes, strict=True)


def _judge(walkers: Sequence[Walker], ensemble: Ensemble) -> None:
    """Keep the frames of this step, with the deviations of all models."""
    opinions: list[list[Outcome]] = [[] for _ in walkers]
    for number in range(len(ensemble)):
        others = [walker for walker in walkers if walker.driver != number]
        outcomes = iter(ensemble.evaluate(number, [walker.atoms for walker in others]))
        for walker, found in zip(walkers, opinions, strict=True):
            own = Calculated(0.0, walker.motion.forces, walker.motion.virial)
            found.append(own if walker.driver == number else next(outcomes))
    for walker, found in zip(walkers, opinions, strict=True):
        failed = [outcome for outcome in found if not isinstance(outcome, Calculated)]
        if failed:
            walker.halt(said(failed[0]))
        else:
            walker.keep(*_deviations([each for each in found if isinstance(each, Calculated)]))


def _deviations(opinions: Sequence[Calculated]) -> tuple[float, float]:
    """Return the deviations of forces in eV/Å and of virials in eV/atom; zero without virials."""
    forces = np.array([opinion.forces for opinion in opinions])[:, None]
    none = np.zeros((3, 3))
    virials = np.array([none if each.virial is None else each.virial for each in opinions])[:, None]
    (max_devi_f,) = ensemble_deviation(forces)
    (max_devi_v,) = ensemble_virial_deviation(virials, forces.shape[2])
    return float(max_devi_f), float(max_devi_v)
