"""The pre-flight check of what the loop is to do: exploration, stages, limits, production."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ionloop.preflight.codes.base import look_at_code, look_at_models, look_at_schedule
from ionloop.preflight.cost import first_labels, labels_of, n_starts
from ionloop.preflight.findings import Finding, error, ok, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.schemas.errors import InputError

MOST_FRAMES = 1_000_000
"""Most frames of one trajectory: all of them are held in memory at once."""


MOST_LEGS = 10_000
"""Most parts of one trajectory, from one restart file to the next: each has its own commands."""


MOST_BY_KEY = {"temperatures": (1e5, "K"), "pressures": (1e7, "bar"), "timestep": (50.0, "fs")}
"""What is far beyond any crystal, by the key of a stage or of the validation."""


def look_at_explorer(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look for the program that explores, and whether it runs what the trainer makes.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    yield from look_at_code(run_file.explore, inputs.elements)
    kind = run_file.train.maker_type.kind
    try:
        run_file.explore.maker(inputs.elements).check_kind(kind)
    except InputError as problem:
        yield error("explore.code", str(problem).removeprefix("explore: "))
        return
    yield from look_at_models(run_file.explore, run_file.train)


def look_at_production(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the production can start from the ensemble, and what judges it.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    production = run_file.production
    changed = run_file.other_production
    same_code = production.code in (None, run_file.train.code)
    if production.warm_start and changed and same_code and not production.teacher:
        keys = ", ".join(changed)
        sentence = (
            f"its network is not the ensemble's ({keys}): it is trained from scratch, not from "
            "the last ensemble"
        )
        cure = f"leave out {keys} to start from the ensemble, or say production.warm_start: false"
        yield warning("production", sentence, cure)
    held = run_file.production_section.validation_fraction
    if production.warm_start and not changed and held > run_file.train.validation_fraction:
        sentence = "more is held back than from the ensemble that it starts from, which has seen it"
        cure = f"{run_file.train.validation_fraction:g} at most, or production.warm_start: false"
        yield warning("production.validation_fraction", sentence, cure)
    if production.train_on_all:
        sentence = "it is trained on the held-back frames too, and has no held-back error"
        yield ok("production.train_on_all", sentence)


def look_at_schedules(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the trainings are long enough, and learn until their end.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    train, production = run_file.train, run_file.production
    yield from look_at_schedule(train, "train", warm=False)
    yield from look_at_schedule(train, "train", warm=True)
    warm = production.warm_start and not run_file.other_production
    yield from look_at_schedule(run_file.production_section, "production", warm=warm)


def look_at_stages(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look at the conditions of the stages, and compare trust levels with the limit of explosion.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    stages: dict[str, Any] = {f"stages[{i}]": stage for i, stage in enumerate(run_file.stages)}
    for key, conditions in {**stages, "validation": run_file.validation}.items():
        yield from _look_at_conditions(key, conditions)
    if lack := run_file.validation.lack(run_file.stages[-1], n_starts(inputs.structures)):
        cure = "lower it, or raise validation.steps or validation.n_structures"
        yield error("validation.n_frames", lack, cure)
    exploded = getattr(run_file.explore, "stop_max_devi_f", np.inf)
    windows = {f"{key}.trust": stage.trust for key, stage in stages.items() if stage.trust}
    for key, window in {"trust": run_file.trust, **windows}.items():
        if window.high > exploded:
            sentence = f"high ({window.high:g}) is above explore.stop_max_devi_f ({exploded:g})"
            yield warning(key, sentence, "trajectories end before a frame is failed: raise that")
    for name in ("stage", "own_stage") if run_file.production.teacher else ():
        if given := getattr(run_file.production.teacher, name):
            stages[f"production.teacher.{name}"] = given
            yield from _look_at_conditions(f"production.teacher.{name}", given)
    if run_file.validation.temperatures:
        stages["validation"] = run_file.validation_stage
    for key, stage in stages.items():
        yield from _look_at_length(key, stage, run_file)
    yield from _look_at_virials(run_file)
    yield from _look_at_frames_per_condition(run_file, inputs)
    yield from _look_at_explored_range(run_file)


def _look_at_conditions(key: str, conditions: Any) -> Iterator[Finding]:
    """Look at temperatures, pressures and time step of a stage or of the validation."""
    if cold := [t for t in conditions.temperatures if t <= 0]:
        sentence = f"{cold[0]:g} K is not above 0"
        yield error(f"{key}.temperatures", sentence, "give temperatures in K")
    for name, (most, unit) in MOST_BY_KEY.items():
        values = np.atleast_1d(getattr(conditions, name) or [])
        if len(absurd := values[np.abs(values) > most]):
            sentence = f"{absurd[0]:g} {unit} is beyond any crystal"
            yield error(f"{key}.{name}", sentence, f"give {most:g} {unit} at most")


def _look_at_length(key: str, stage: Any, run_file: RunFile) -> Iterator[Finding]:
    """Look for trajectories of more frames than can be judged, or more legs than a script takes."""
    if (n := stage.steps // stage.dump_every) > MOST_FRAMES:
        sentence = f"{n:.3g} frames of every trajectory are more than can be judged"
        apart = "validation.spacing" if key == "validation" else "dump_every"
        yield error(f"{key}.steps", sentence, f"lower it, or raise {apart}")
    every = getattr(run_file.explore, "restart_every", stage.steps)
    if (n := stage.steps // max(every, stage.dump_every)) > MOST_LEGS:
        sentence = f"{n:.3g} restart files of a trajectory of {key} ({stage.steps:.3g} steps)"
        yield error("explore.restart_every", sentence, f"raise it, or lower {key}.steps")


def _look_at_virials(run_file: RunFile) -> Iterator[Finding]:
    """Look for stages whose cells move although no trust level judges the virial."""
    moving = [
        str(number)
        for number, stage in enumerate(run_file.stages, 1)
        if stage.ensemble != "nvt" and (stage.trust or run_file.trust).v is None
    ]
    if moving:
        which = f"the cells of stage {', '.join(moving)} move (NPT)"
        cure = "set v_low and v_high in eV/atom, or the deviation of the forces decides alone"
        yield warning("trust", f"{which}, and no window is set on max_devi_v", cure)


def _look_at_frames_per_condition(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether every condition gives enough frames to be judged by itself."""
    least = run_file.convergence.min_frames
    starts = min((len(frames) for frames in inputs.structures), default=0)
    if not starts or run_file.convergence.pooled:
        return
    for number, stage in enumerate(run_file.stages):
        frames = stage.n_counted * stage.n_structures * starts
        if frames < least:
            sentence = (
                f"{frames} frames of a condition (temperature, pressure, composition) count, fewer "
                f"than the {least} with which it is judged by itself (convergence.min_frames)"
            )
            cure = "such conditions are judged together: more steps or structures tell them apart"
            yield warning(f"stages[{number}]", sentence, cure)


def _look_at_explored_range(run_file: RunFile) -> Iterator[Finding]:
    explored = [t for stage in run_file.stages for t in stage.temperatures]
    low, high = min(explored), max(explored)
    outside = [f"{t:g}" for t in run_file.validation.temperatures if not low <= t <= high]
    if outside:
        sentence = f"{', '.join(outside)} K: outside the explored {low:g} to {high:g} K"
        yield warning("validation.temperatures", sentence, "the errors will be of extrapolation")


def look_at_limits(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the limits leave anything for the loop.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    limits = run_file.limits
    if limits.max_turns is not None and limits.max_turns < len(run_file.stages):
        sentence = (
            f"{limits.max_turns} turns do not reach the last of {len(run_file.stages)} stages"
        )
        yield warning("limits.max_turns", sentence, "raise it, or leave stages out")
    if limits.max_labels is None:
        return
    first = first_labels(run_file, inputs.structures) + sum(map(len, inputs.data))
    validation = run_file.validation.n_labels
    left = limits.max_labels - first - validation
    wanted = labels_of(run_file, run_file.stages[0])
    account = f"{first} initial labels and {validation} of the validation"
    if left <= 0:
        sentence = f"{account} leave nothing of {limits.max_labels} for the loop"
        yield error("limits.max_labels", sentence, "raise it, or lower the initial labels")
    elif left < wanted:
        sentence = f"{account} leave {left}, less than one turn's {wanted}"
        yield warning("limits.max_labels", sentence, "raise it")
