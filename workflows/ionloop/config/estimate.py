"""What a run costs, roughly: labels, trainings, MD steps and core hours."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from ionloop.config.run_file import RunFile
from ionloop.schemas.document import Model
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.units import CoreHours


class Cost(Model):
    """What a run costs."""

    turns: int
    labels: int
    trainings: int
    md_steps: int
    core_hours: CoreHours | None = Field(description="none: the labeller's rate is not known")


class Estimate(Model):
    """The cost if every stage converges at once, and if it never does."""

    least: Cost
    most: Cost

    @property
    def sentence(self) -> str:
        """The estimate in words."""
        low, high = self.least, self.most
        if low.core_hours is None or high.core_hours is None:
            hours = "core hours unknown (the labeller's rate is not known)"
        else:
            hours = f"very roughly {low.core_hours:.1f} to {high.core_hours:.1f} core hours"
        return (
            f"{low.turns} to {high.turns} turns, {low.labels} to {high.labels} labels, "
            f"{low.trainings} to {high.trainings} trainings, "
            f"{low.md_steps:,} to {high.md_steps:,} MD steps; {hours}"
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
    quick = [s for s in run_file.stages for _ in range(run_file.convergence.turns)]
    slow = [s for s in run_file.stages for _ in range(s.max_turns)]
    most_turns = run_file.limits.max_turns
    return Estimate(
        least=_cost(run_file, structures, quick[:most_turns], new_labels=False),
        most=_cost(run_file, structures, slow[:most_turns], new_labels=True),
    )


def first_labels(run_file: RunFile, structures: Sequence[Frames]) -> int:
    """Return the labels asked for before the first turn."""
    return run_file.initial.n_perturbed * sum(len(frames) for frames in structures)


def n_trajectories(stage: Stage, structures: Sequence[Frames]) -> int:
    """Return the trajectories of one turn of a stage."""
    n_starts = sum(len(frames) for frames in structures)
    return len(stage.conditions) * stage.n_structures * n_starts


def labels_of(run_file: RunFile, stage: Stage) -> int:
    """Return the labels that one turn of a stage may ask for."""
    return stage.max_labels or run_file.select.max_labels


def n_validation(run_file: RunFile) -> int:
    """Return the labels of the validation."""
    return run_file.validation.n_labels


def _cost(
    run_file: RunFile, structures: Sequence[Frames], turns: Sequence[Stage], *, new_labels: bool
) -> Cost:
    explored = [*turns, *([run_file.validation.stage] if n_validation(run_file) else [])]
    labels = _labels(run_file, structures, turns if new_labels else [])
    n_atoms = _mean_atoms(structures)
    label_seconds = run_file.label.label_seconds(n_atoms)
    spent = _training_seconds(run_file, n_atoms, len(turns)) + sum(
        _md_seconds(run_file, stage, structures) for stage in explored
    )
    return Cost(
        turns=len(turns),
        labels=labels,
        trainings=len(turns) * run_file.train.n_models + run_file.production.n_models,
        md_steps=sum(n_trajectories(stage, structures) * stage.steps for stage in explored),
        core_hours=None if label_seconds is None else (spent + labels * label_seconds) / 3600,
    )


def _labels(run_file: RunFile, structures: Sequence[Frames], turns: Sequence[Stage]) -> int:
    asked = sum(labels_of(run_file, stage) for stage in turns)
    total = first_labels(run_file, structures) + asked + n_validation(run_file)
    most = run_file.limits.max_labels
    return total if most is None else min(total, most)


def _training_seconds(run_file: RunFile, n_atoms: int, n_turns: int) -> float:
    train = run_file.train
    production = train.for_production(run_file.production)
    cold = train.training_seconds(n_atoms, warm=False)
    warm = train.training_seconds(n_atoms, warm=True)
    last = production.training_seconds(n_atoms, warm=run_file.production.warm_start)
    turns = train.n_models * (cold + warm * (n_turns - 1)) if n_turns else 0.0
    return turns + production.n_models * last


def _md_seconds(run_file: RunFile, stage: Stage, structures: Sequence[Frames]) -> float:
    a, b, c = stage.supercell
    n_atoms = _mean_atoms(structures) * a * b * c
    step = run_file.explore.step_seconds(n_atoms, run_file.train.n_models, stage.dump_every)
    return n_trajectories(stage, structures) * stage.steps * step


def _mean_atoms(structures: Sequence[Frames]) -> int:
    n_frames = sum(len(frames) for frames in structures)
    return round(sum(len(f) * f.n_atoms for f in structures) / n_frames) if n_frames else 0
