"""Describe what a run will do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ionloop.flows.concurrent_learning.settings import InitialDynamics
from ionloop.preflight.cost import labels_of, n_dynamics, n_perturbed, n_starts, n_trajectories
from ionloop.runfile.model import RunFile
from ionloop.schemas.exploration import Stage
from ionloop.schemas.frames import Frames
from ionloop.schemas.kpoints import times
from ionloop.schemas.selection import TrustWindow

BAROSTATS = {"npt-iso": "isotropic", "npt-aniso": "anisotropic", "npt-tri": "triclinic"}


def plan(run_file: RunFile, structures: Sequence[Frames]) -> list[str]:
    """Describe what a run will do, one or two sentences per step.

    Parameters
    ----------
    run_file
        What to run.
    structures
        The start structures.
    """
    steps = [
        *_initial(run_file, structures),
        _turn(run_file),
        *(_stage(run_file, number, structures) for number in range(len(run_file.stages))),
        _end(run_file),
        *_distillation(run_file, structures),
        _production(run_file),
        *_validation(run_file, structures),
    ]
    return [f"{number}. {step}" for number, step in enumerate(steps, 1)]


def count(n: int, word: str, words: str | None = None) -> str:
    """Return a number of things, such as ``1 turn`` or ``2 turns``.

    Parameters
    ----------
    n
        How many.
    word
        What one of them is called.
    words
        What several are called; by default the word with an s.
    """
    return f"{n} {word if n == 1 else words or word + 's'}"


def _trajectories(stage: Stage, structures: Sequence[Frames]) -> str:
    return count(n_trajectories(stage, structures), "trajectory", "trajectories")


def _initial(run_file: RunFile, structures: Sequence[Frames]) -> Iterator[str]:
    initial = run_file.initial
    model = getattr(run_file.label, "model", None)
    labeller = f"{run_file.label.code} ({f'model {model}' if model else run_file.label.code})"
    if initial.relax:
        yield f"Relax the start structures with {labeller}."
    for data in initial.data:
        yield f"Read the labels of {data.path}."
    for section in initial.aimd:
        yield _dynamics(section, structures, labeller)
    if initial.n_perturbed:
        names = ", ".join(path.name for path in run_file.structures)
        yield (
            f"Perturb {names} {initial.n_perturbed} times (atoms by up to "
            f"{initial.displacement:g} Å, cells by up to {initial.strain:.1%}) and label the "
            f"{n_perturbed(run_file, structures)} frames with {labeller}."
        )


def _dynamics(section: InitialDynamics, structures: Sequence[Frames], labeller: str) -> str:
    n_runs = len(section.temperatures) * n_starts(structures)
    temperatures = ", ".join(f"{t:g}" for t in section.temperatures)
    labels = n_dynamics([section], structures)
    skipped = f" after the first {section.skip}" if section.skip else ""
    return (
        f"Run molecular dynamics with {labeller} from the start structures: "
        f"{count(n_runs, 'trajectory', 'trajectories')} of {_length(section)}, NVT at "
        f"{temperatures} K; one of every {section.every} steps{skipped} is a label: {labels}."
    )


def _turn(run_file: RunFile) -> str:
    train = run_file.train
    return (
        f"In every turn: train {train.n_models} {train.description}, explore with "
        f"{run_file.explore.code}, pick among the candidates, label the picks, compare them with "
        "the models, decide."
    )


def _stage(run_file: RunFile, number: int, structures: Sequence[Frames]) -> str:
    stage = run_file.stages[number]
    return (
        f"Stage {number + 1}, at most {count(stage.max_turns, 'turn')}: "
        f"{_trajectories(stage, structures)} of {_length(stage)}, "
        f"{_conditions(stage)}{_cell(stage)}, the first {count(stage.warm_up, 'step')} set aside; "
        f"label up to {labels_of(run_file, stage)} frames per turn with "
        f"{_window(stage.trust or run_file.trust)}."
    )


def _length(stage: Stage | InitialDynamics) -> str:
    return f"{stage.steps} steps ({stage.steps * stage.timestep / 1000:g} ps)"


def _conditions(stage: Stage) -> str:
    temperatures = f"at {', '.join(f'{t:g}' for t in stage.temperatures)} K"
    if stage.ensemble == "nvt":
        return f"NVT {temperatures}"
    pressures = ", ".join(f"{p:g}" for p in stage.pressures)
    return f"NPT ({BAROSTATS[stage.ensemble]}) {temperatures} and {pressures} bar"


def _cell(stage: Stage) -> str:
    return "" if stage.supercell == (1, 1, 1) else f", in {times(stage.supercell)} cells"


def _window(trust: TrustWindow) -> str:
    v = trust.v
    virial = "" if v is None else f" or max_devi_v in [{v[0]:g}, {v[1]:g}) eV/atom"
    return f"max_devi_f in [{trust.low:g}, {trust.high:g}) eV/Å{virial}"


def _end(run_file: RunFile) -> str:
    convergence, limits = run_file.convergence, run_file.limits
    bounds = [
        f"{value:g} {what}"
        for value, what in (
            (limits.max_turns, "turns"),
            (limits.max_labels, "labels"),
            (limits.max_core_hours, "core hours"),
        )
        if value is not None
    ]
    otherwise = f", and in any case after {' or '.join(bounds)}" if bounds else ""
    whose = "its frames" if convergence.pooled else "the frames of every condition"
    turns = "a turn" if convergence.turns == 1 else f"{convergence.turns} turns in a row"
    return (
        f"A stage is converged when {convergence.accurate_fraction:.1%} of {whose} are accurate "
        f"and {convergence.finished_fraction:.0%} of its trajectories come to their end in "
        f"{turns}; the loop ends after the last stage{otherwise}."
    )


def _distillation(run_file: RunFile, structures: Sequence[Frames]) -> Iterator[str]:
    teacher = run_file.production.teacher
    if teacher is None:
        return
    stage, explorer = teacher.stage_of(run_file.stages), run_file.student_explorer
    own = teacher.own_stage_of(run_file.stages)
    same = "that of" if own == stage else f"the molecular dynamics ({_md(stage, structures)}) of"
    yield (
        f"Distil: the last ensemble labels {teacher.n_own} frames of its own molecular dynamics "
        f"({_md(own, structures)}), and {teacher.n_frames} of {same} {teacher.n_models} students "
        f"({explorer.code}) in each of at most {count(teacher.max_rounds, 'round')}, drawn at "
        f"random, until their force error against it is at most {teacher.factor:g} times its own "
        "on held-back labels; no label is bought."
    )


def _md(stage: Stage, structures: Sequence[Frames]) -> str:
    trajectories, length = _trajectories(stage, structures), _length(stage)
    return f"{trajectories} of {length}, {_conditions(stage)}{_cell(stage)}"


def _production(run_file: RunFile) -> str:
    production = run_file.production
    section = run_file.production_section
    steps = production.steps or getattr(section, "steps", None)
    length = f" for {steps} steps" if steps else ""
    frames = ", on the held-back frames too" if production.train_on_all else ""
    if teacher := production.teacher:
        often = f", {teacher.label_weight:g} times as often," if teacher.label_weight != 1 else ""
        frames += f", on all that the teacher labelled and{often} on the labels"
    models = count(production.n_models, "model")
    return f"Train the potential: {models}{length}, {_origin(run_file)}{frames}."


def _origin(run_file: RunFile) -> str:
    section = run_file.production_section
    if run_file.production.teacher and run_file.production.warm_start:
        return "from the students of the last round"
    if not run_file.production.warm_start or getattr(section, "warm_steps", 1) is None:
        return section.start
    if changed := run_file.other_production:
        return f"{section.start}, since its network is not the ensemble's ({', '.join(changed)})"
    return "from the last ensemble"


def _validation(run_file: RunFile, structures: Sequence[Frames]) -> Iterator[str]:
    validation = run_file.validation
    if validation.n_labels:
        stage = run_file.validation_stage
        yield (
            f"Validate it: {_trajectories(stage, structures)} of {_length(stage)}, "
            f"{_conditions(stage)}{_cell(stage)}; label {validation.n_frames} of their frames, "
            f"{validation.spacing:g} fs apart or more, drawn at random and never trained on, and "
            "compare."
        )
