"""What a run costs, roughly: labels, trainings, MD steps and core hours."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, prod

from ionloop.flows.concurrent_learning.settings import InitialDynamics
from ionloop.flows.distillation.settings import Distillation
from ionloop.preflight.codes.base import (
    dynamics_seconds,
    label_seconds,
    step_seconds,
    training_seconds,
)
from ionloop.runfile.model import RunFile
from ionloop.schemas.document import Model
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.units import CoreHours


class Cost(Model):
    """What a run costs."""

    turns: int
    labels: int
    taught: int = 0
    """frames that a teacher labels, which buys nothing"""
    trainings: int
    md_steps: int
    core_hours: CoreHours | None
    """none: the speed of a code is not known"""


class Estimate(Model):
    """The cost if every stage converges at once, and if it never does."""

    least: Cost
    most: Cost

    @property
    def sentence(self) -> str:
        """The estimate as a sentence."""
        low, high = self.least, self.most
        if low.core_hours is None or high.core_hours is None:
            hours = "core hours unknown, since the speed of a code is not known"
        else:
            hours = f"very roughly {_span(low.core_hours, high.core_hours, '.1f')} core hours"
        taught = f"{_span(low.taught, high.taught)} frames labelled by the teacher, "
        return (
            f"{_span(low.turns, high.turns)} turns, {_span(low.labels, high.labels)} labels, "
            f"{taught if high.taught else ''}"
            f"{_span(low.trainings, high.trainings)} trainings, "
            f"{_span(low.md_steps, high.md_steps)} MD steps; {hours}"
        )


def estimate(run_file: RunFile, structures: Sequence[Frames]) -> Estimate:
    """Estimate the cost of a run.

    Parameters
    ----------
    run_file
        What to run.
    structures
        The start structures.
    """
    fewest = run_file.convergence.turns
    quick = [s for s in run_file.stages for _ in range(min(fewest, s.max_turns))]
    slow = [s for s in run_file.stages for _ in range(s.max_turns)]
    most_turns = run_file.limits.max_turns
    return Estimate(
        least=_cost(run_file, structures, quick[:most_turns], new_labels=False),
        most=_cost(run_file, structures, slow[:most_turns], new_labels=True),
    )


def first_labels(run_file: RunFile, structures: Sequence[Frames]) -> int:
    """Return the labels asked for before the first turn.

    Parameters
    ----------
    run_file
        What to run.
    structures
        The start structures.
    """
    of_dynamics = n_dynamics(run_file.initial.aimd, structures)
    return n_perturbed(run_file, structures) + of_dynamics


def n_perturbed(run_file: RunFile, structures: Sequence[Frames]) -> int:
    """Return the perturbed frames that are labelled first.

    Parameters
    ----------
    run_file
        What to run.
    structures
        The start structures.
    """
    return run_file.initial.n_perturbed * n_starts(structures)


def n_dynamics(sections: Sequence[InitialDynamics], structures: Sequence[Frames]) -> int:
    """Return the labels of the labeller's own MD.

    Parameters
    ----------
    sections
        What it runs from every start structure.
    structures
        The start structures.
    """
    each = sum(len(run.kept) for section in sections for run in section.runs)
    return each * n_starts(structures)


def n_starts(structures: Sequence[Frames]) -> int:
    """Return the number of start structures."""
    return sum(len(frames) for frames in structures)


def n_trajectories(stage: Stage, structures: Sequence[Frames]) -> int:
    """Return the trajectories of one turn of a stage.

    Parameters
    ----------
    stage
        A stage of the exploration.
    structures
        The start structures.
    """
    return len(stage.conditions) * stage.n_structures * n_starts(structures)


def labels_of(run_file: RunFile, stage: Stage) -> int:
    """Return the labels that one turn of a stage may ask for.

    Parameters
    ----------
    run_file
        What to run.
    stage
        A stage of the exploration.
    """
    return stage.max_labels or run_file.select.max_labels


def _span(low: float, high: float, form: str = ",d") -> str:
    ends = [format(low, form), format(high, form)]
    return " to ".join(dict.fromkeys(ends))


def _cost(
    run_file: RunFile, structures: Sequence[Frames], turns: Sequence[Stage], *, new_labels: bool
) -> Cost:
    explored = [*turns, *([run_file.validation_stage] if run_file.validation.n_labels else [])]
    labels, seconds = _labels(run_file, structures, turns if new_labels else [])
    seconds += _training_time(run_file, _mean_atoms(structures), len(turns))
    seconds += sum(_md_time(run_file, stage, structures) for stage in explored)
    trainings = len(turns) * run_file.train.n_models + run_file.production.n_models
    md_steps = sum(n_trajectories(stage, structures) * stage.steps for stage in explored)
    taught = 0
    if teacher := run_file.production.teacher:
        rounds = teacher.max_rounds if new_labels else 1
        taught = teacher.n_own + rounds * teacher.n_frames
        trainings += rounds * teacher.n_models
        own, stage = teacher.own_stage_of(run_file.stages), teacher.stage_of(run_file.stages)
        md_steps += n_trajectories(own, structures) * own.steps
        md_steps += rounds * n_trajectories(stage, structures) * stage.steps
        seconds += _distillation_time(run_file, teacher, rounds, structures)
    return Cost(
        turns=len(turns),
        labels=labels,
        taught=taught,
        trainings=trainings,
        md_steps=md_steps,
        core_hours=None if isnan(seconds) else seconds / 3600,
    )


def _distillation_time(
    run_file: RunFile, teacher: Distillation, rounds: int, structures: Sequence[Frames]
) -> float:
    """Return the core seconds of all rounds, without the training of the potential."""
    stage, n_models = teacher.stage_of(run_file.stages), teacher.n_models
    small, section = _mean_atoms(structures), run_file.production_section
    n_atoms = small * prod(stage.supercell)
    n_steps = n_trajectories(stage, structures) * stage.steps
    # A label takes as long as an MD step in which all models run.
    label = step_seconds(run_file.explore, run_file.train, n_atoms, run_file.train.n_models, 1)
    md = step_seconds(run_file.student_explorer, section, n_atoms, n_models, stage.dump_every)
    cold = training_seconds(section, small, warm=False)
    warm = training_seconds(section, small, warm=run_file.production.warm_start)
    return (
        _md_time(run_file, teacher.own_stage_of(run_file.stages), structures)
        + rounds * n_steps * md
        + (teacher.n_own + rounds * teacher.n_frames) * label
        + n_models * (cold + (rounds - 1) * warm)
    )


def _labels(
    run_file: RunFile, structures: Sequence[Frames], turns: Sequence[Stage]
) -> tuple[int, float]:
    """Return the number of labels and their core seconds, nan where the rate is not known."""
    small = _mean_atoms(structures)
    asked = [(n_perturbed(run_file, structures), small)]
    if n := run_file.validation.n_labels:
        asked.append((n, small * prod(run_file.validation_stage.supercell)))
    asked += [(labels_of(run_file, stage), small * prod(stage.supercell)) for stage in turns]
    of_dynamics = n_dynamics(run_file.initial.aimd, structures)
    total = sum(n for n, _ in asked) + of_dynamics
    labels = max(min(total, run_file.limits.max_labels or total), of_dynamics)
    seconds = sum(n * label_seconds(run_file.label, n_atoms) for n, n_atoms in asked)
    share = (labels - of_dynamics) / max(total - of_dynamics, 1)
    return labels, seconds * share + _dynamics_time(run_file, structures)


def _dynamics_time(run_file: RunFile, structures: Sequence[Frames]) -> float:
    """Return the core seconds of the labeller's own MD, nan where its rate is not known."""
    steps = sum(run.steps for section in run_file.initial.aimd for run in section.runs)
    if not steps:
        return 0.0
    return dynamics_seconds(run_file.label, _mean_atoms(structures)) * steps * n_starts(structures)


def _training_time(run_file: RunFile, n_atoms: int, n_turns: int) -> float:
    train, production = run_file.train, run_file.production_section
    cold = training_seconds(train, n_atoms, warm=False)
    warm = training_seconds(train, n_atoms, warm=True)
    last = training_seconds(production, n_atoms, warm=run_file.production.warm_start)
    turns = train.n_models * (cold + warm * (n_turns - 1)) if n_turns else 0.0
    return turns + production.n_models * last


def _md_time(run_file: RunFile, stage: Stage, structures: Sequence[Frames]) -> float:
    n_atoms = _mean_atoms(structures) * prod(stage.supercell)
    train, every = run_file.train, stage.dump_every
    step = step_seconds(run_file.explore, train, n_atoms, train.n_models, every)
    return n_trajectories(stage, structures) * stage.steps * step


def _mean_atoms(structures: Sequence[Frames]) -> int:
    n = n_starts(structures)
    return round(sum(len(f) * f.n_atoms for f in structures) / n) if n else 0
