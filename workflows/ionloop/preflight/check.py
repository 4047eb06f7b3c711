"""The pre-flight check: what a run needs, before it costs anything."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from ionloop.flows.concurrent_learning.settings import ExistingData
from ionloop.formats.errors import FrameFileError
from ionloop.formats.reading import read_frames
from ionloop.geometry.periodic import heights
from ionloop.jobs.label import probe as first
from ionloop.jobs.label.batches import BatchLabelMaker
from ionloop.preflight.cost import Estimate, estimate, first_labels, labels_of, n_validation
from ionloop.preflight.data import look_at_labels
from ionloop.preflight.engine import look_at_engine
from ionloop.preflight.plan import plan
from ionloop.preflight.sampling import meshes
from ionloop.programs.process import ProgramError
from ionloop.runfile.findings import Finding, error, ok, warning
from ionloop.runfile.model import RunFile, read
from ionloop.schemas.document import Model
from ionloop.schemas.frames import Frames, concatenate, symbols_of
from ionloop.schemas.label import LabelDoc, LabelStatus, LevelOfTheory, RejectReason
from ionloop.selection.physical import unphysical
from ionloop.selection.plausible import doubts
from ionloop.stores.connect import LoopStore, collection, describe, open_store
from ionloop.stores.sqlite import EmptyStoreError, StoreError

THIN = 2.0
"""Cell height in Å below which a cell is more likely a mistake than a material."""


WIDE = 1000.0
"""Cell height in Å above which the bins of a neighbour search take all memory."""


MOST_FRAMES = 1_000_000
"""Frames of one trajectory that are held in memory at once."""


MOST_LEGS = 10_000
"""Parts of one trajectory, between restart files, each of which has its commands for LAMMPS."""


PROBE_SECONDS = 600.0
"""Time limit of the labels of cells of two atoms, in s."""


ABOUT_THE_CELL = (RejectReason.UNCONVERGED, RejectReason.OUTLIER)
"""Rejections that say something about a made-up cell, not about the labeller."""


FREE_BYTES = 2_000_000_000
"""Free disk below which a run is warned: scratch and store of a small run."""


class Report(Model):
    """What the check found, what the run will do, and what it costs."""

    findings: list[Finding]
    plan: list[str]
    estimate: Estimate

    @property
    def errors(self) -> list[Finding]:
        """The findings that keep the run from starting."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def ok(self) -> bool:
        """Whether the run may start."""
        return not self.errors


def check(
    run_file: RunFile, tell: Callable[[str], None] = lambda words: None, *, probe: bool = False
) -> Report:
    """Check a run file before anything costly happens.

    Programs are started for their versions and the labeller's model is loaded, which takes some
    seconds. Nothing is left behind: what an engine writes to see its store is removed again.

    Parameters
    ----------
    run_file
        What to check.
    tell
        Hears what is looked at next.
    probe
        Whether a labeller that starts a program is to label cells of two atoms, on this host, if
        all else is in order.

    Returns
    -------
    Report
        With a finding for everything that was looked at.
    """
    tell("structures and data")
    inputs = read_inputs(run_file)
    findings = list(inputs.findings)
    for words, look in LOOKS.items():
        tell(words)
        findings += look(run_file, inputs)
    if probe and not any(finding.level == "error" for finding in findings):
        tell("the labeller, on cells of two atoms")
        findings += look_at_first_labels(run_file, inputs)
    return Report(
        findings=findings,
        plan=plan(run_file, inputs.structures),
        estimate=estimate(run_file, inputs.structures),
    )


@dataclass(frozen=True)
class Inputs:
    """What could be read of structures and data, and what could not."""

    structures: list[Frames] = field(default_factory=list)
    files: list[list[Frames]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def data(self) -> list[Frames]:
        """The frames of all of `initial.data`, which `files` keeps apart."""
        return [part for parts in self.files for part in parts]

    @property
    def elements(self) -> list[str]:
        """Chemical symbols in the order of appearance."""
        return symbols_of([*self.structures, *self.data])


def read_inputs(run_file: RunFile) -> Inputs:
    """Read structures and data as far as they can be read."""
    findings: list[Finding] = []
    structures = [
        part
        for number, path in enumerate(run_file.structures)
        for part in _try(f"structures[{number}]", path, partial(read_frames, path), findings)
    ]
    files = [
        _try(f"initial.data[{number}]", Path(each.path), partial(read, each), findings)
        for number, each in enumerate(run_file.initial.data)
    ]
    return Inputs(concatenate(part.unlabelled() for part in structures), files, findings)


def _try(
    key: str, path: Path, reader: Callable[[], list[Frames]], findings: list[Finding]
) -> list[Frames]:
    try:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            frames = reader()
    except FrameFileError as problem:
        findings.append(error(key, str(problem)))
        return []
    said = dict.fromkeys(" ".join(str(each.message).split()) for each in remarks)
    findings += [warning(key, f"{path}: {shorten(sentence, 300)}") for sentence in said]
    parts = ", ".join(f"{len(part)} of {part.formula}" for part in frames)
    findings.append(ok(key, f"{path} holds frames: {parts}"))
    return frames


def look_at_cells(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look for cells and distances that no material has."""
    limits = getattr(run_file.explore, "limits", None)
    for frames in inputs.structures:
        thinnest = float(np.min(heights(frames.cells)))
        if thinnest < THIN:
            sentence = f"a cell of {frames.formula} is only {thinnest:.2f} Å thick"
            yield warning("structures", sentence, "check that its unit is Å")
        widest = float(np.max(heights(frames.cells)))
        if widest > WIDE:
            sentence = f"a cell of {frames.formula} is {widest:.3g} Å wide"
            cure = (
                "give it in Å, without vacuum: neither LAMMPS nor a search of neighbours takes it"
            )
            yield error("structures", sentence, cure)
        for doubt in doubts([frames]):
            yield warning("structures", doubt, "convert them to Å")
        for fault in sorted({fault for fault in unphysical(frames, limits).tolist() if fault}):
            cure = "relax it first (initial.relax) or correct it"
            yield warning("structures", f"a start structure of {frames.formula}: {fault}", cure)


def look_at_types(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Compare the type map with the elements that are there."""
    from ase.data import atomic_numbers

    types = run_file.type_map
    if types is None:
        return
    wrong = [symbol for symbol in types if symbol not in atomic_numbers or symbol == "X"]
    missing = [symbol for symbol in inputs.elements if symbol not in types]
    idle = [symbol for symbol in types if symbol not in inputs.elements and symbol not in wrong]
    if wrong:
        yield error("type_map", f"no chemical symbols: {', '.join(wrong)}", "correct them")
    if len(set(types)) < len(types):
        yield error("type_map", "a symbol occurs twice", "name each once")
    if missing:
        yield error("type_map", f"lacks {', '.join(missing)} of the structures or data", "add it")
    if idle and inputs.elements:
        yield warning("type_map", f"{', '.join(idle)}: in no structure and no data")


def look_at_data(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether there will be labels to train on, all of one level of theory."""
    initial = run_file.initial
    if not initial.n_perturbed and not initial.data and not initial.aimd:
        cure = "set initial.n_perturbed or initial.aimd, or name labelled data in initial.data"
        yield error("initial", "there is nothing to train on", cure)
    for number, data in enumerate(initial.data):
        yield from _look_at_level(f"initial.data[{number}]", data, initial.allow_mixed)
    if not all(frames.is_labelled for frames in inputs.data):
        yield error("initial.data", "some frames have no energies and forces", "name labelled data")


def look_at_numbers(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Judge the labels of existing data as the run will."""
    yield from look_at_labels(run_file, inputs.files)


def _look_at_level(key: str, data: ExistingData, allow_mixed: bool) -> Iterator[Finding]:
    if data.same_level:
        return
    if allow_mixed and data.level:
        sentence = f"labels of two levels of theory are mixed: {data.path} is of {data.level}"
        yield warning(key, sentence, "their energies may differ by more than the model's error")
        return
    sentence = (
        f"{data.path}: labels of two levels of theory never mix, and it is not said that these "
        "are of the labeller's"
    )
    cure = (
        "say same_level: true if they are, or leave them out; or say their level in words and set "
        "initial.allow_mixed"
    )
    yield error(key, sentence, cure)


def look_at_labeller(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look for the labeller and the elements that it covers."""
    yield from run_file.label.preflight(inputs.elements)


def look_at_first_labels(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Let the labeller calculate cells of two atoms, as a job of the run would, on this host."""
    if not run_file.label.starts_a_program or not inputs.elements:
        return
    maker = run_file.label.maker()
    assert isinstance(maker, BatchLabelMaker)
    cells = first.probe_cells(inputs.elements)
    try:
        labels = first.probe(maker, cells, PROBE_SECONDS)
    except ProgramError as problem:
        cure = "see that it starts, or leave this out (--no-probe)"
        yield error("label", f"no label of a cell of two atoms: {problem}", cure)
        return
    for label in labels:
        yield _first_label(label)


def _first_label(label: LabelDoc) -> Finding:
    cell = label.frame.formula
    if label.reason in ABOUT_THE_CELL:
        detail = f"whose result is none to train on ({label.detail}), as may be in so small a cell"
        return ok("label", f"the labeller calculates a cell of {cell}, {detail}")
    if label.reason is not None:
        return error("label", f"no label of a cell of {cell}: {label.detail}", "mend that first")
    return ok("label", f"the labeller gives a label of a cell of {cell}, in {label.seconds:.0f} s")


def look_at_trainer(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look for the program that trains."""
    yield from run_file.train.preflight(inputs.elements)


def look_at_explorer(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look for the program that explores, and whether it loads the models."""
    yield from run_file.explore.preflight(inputs.elements)
    yield from run_file.explore.preflight_models(run_file.train.model_suffix)


def look_at_kpoints(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Say the k-points of start cells and supercells, and where strain would change them."""
    yield from meshes(run_file, inputs.structures)


def look_at_production(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the production can start from the ensemble, and what judges it."""
    production = run_file.production
    changed = run_file.other_production
    if production.warm_start and changed:
        keys = ", ".join(changed)
        sentence = (
            f"its network is not the ensemble's ({keys}): it is trained from scratch, not from "
            "the last ensemble"
        )
        cure = f"leave out {keys} to start from the ensemble, or say production.warm_start: false"
        yield warning("production", sentence, cure)
    held = run_file.train.for_production(production).validation_fraction
    if production.warm_start and not changed and held > run_file.train.validation_fraction:
        sentence = "more is held back than from the ensemble that it starts from, which has seen it"
        cure = f"{run_file.train.validation_fraction:g} at most, or production.warm_start: false"
        yield warning("production.validation_fraction", sentence, cure)
    if production.train_on_all:
        sentence = "it is trained on the held-back frames too, and has no held-back error"
        yield ok("production.train_on_all", sentence)


MOST_BY_KEY = {"temperatures": (1e5, "K"), "pressures": (1e7, "bar"), "timestep": (50.0, "fs")}
"""What is far beyond any crystal, by the key of a stage or of the validation."""


def _look_at_conditions(run_file: RunFile) -> Iterator[Finding]:
    sections: dict[str, Any] = {f"stages[{i}]": stage for i, stage in enumerate(run_file.stages)}
    for key, conditions in {**sections, "validation": run_file.validation}.items():
        if cold := [t for t in conditions.temperatures if t <= 0]:
            sentence = f"{cold[0]:g} K is not above 0"
            yield error(f"{key}.temperatures", sentence, "give temperatures in K")
        for name, (most, unit) in MOST_BY_KEY.items():
            values = np.atleast_1d(getattr(conditions, name) or [])
            if len(absurd := values[np.abs(values) > most]):
                sentence = f"{absurd[0]:g} {unit} is beyond any crystal"
                yield error(f"{key}.{name}", sentence, f"give {most:g} {unit} at most")


def look_at_stages(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look at temperatures, and at trust levels beside the limit of explosion."""
    yield from _look_at_conditions(run_file)
    if lack := run_file.validation.lack(run_file.stages[-1], sum(map(len, inputs.structures))):
        cure = "lower it, or raise validation.steps or validation.n_structures"
        yield error("validation.n_frames", lack, cure)
    exploded = getattr(run_file.explore, "stop_max_devi_f", np.inf)
    windows = {f"stages[{i}].trust": s.trust for i, s in enumerate(run_file.stages) if s.trust}
    for key, window in {"trust": run_file.trust, **windows}.items():
        if window.high > exploded:
            sentence = f"high ({window.high:g}) is above explore.stop_max_devi_f ({exploded:g})"
            yield warning(key, sentence, "trajectories end before a frame is failed: raise that")
    yield from _look_at_lengths(run_file)
    yield from _look_at_virials(run_file)
    yield from _look_at_frames_per_condition(run_file, inputs)
    yield from _look_at_explored_range(run_file)


def _look_at_lengths(run_file: RunFile) -> Iterator[Finding]:
    """Look for trajectories of more frames than can be judged, or more legs than a script takes."""
    stages = {f"stages[{i}]": stage for i, stage in enumerate(run_file.stages)}
    if run_file.validation.temperatures:
        stages["validation"] = run_file.validation_stage
    for key, stage in stages.items():
        if (n := stage.steps // stage.dump_every) > MOST_FRAMES:
            sentence = f"{n:.3g} frames of every trajectory are more than can be judged"
            apart = "validation.spacing" if key == "validation" else "dump_every"
            yield error(f"{key}.steps", sentence, f"lower it, or raise {apart}")
        every = getattr(run_file.explore, "restart_every", stage.steps)
        if (n := stage.steps // max(every, stage.dump_every)) > MOST_LEGS:
            sentence = f"{n:.3g} restart files of a trajectory of {key} ({stage.steps:.3g} steps)"
            yield error("explore.restart_every", sentence, f"raise it, or lower {key}.steps")


def _look_at_virials(run_file: RunFile) -> Iterator[Finding]:
    """Look for stages whose cells move while nobody asks how well the models know the stress."""
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
    """Look whether every condition gives frames enough to be judged by itself."""
    least = run_file.convergence.min_frames
    starts = min((len(frames) for frames in inputs.structures), default=0)
    for number, stage in enumerate(run_file.stages):
        frames = stage.n_counted * stage.n_structures * starts
        if starts and frames < least and not run_file.convergence.pooled:
            sentence = (
                f"{frames} frames of a condition (temperature, pressure, composition) count, fewer "
                f"than the {least} with which it is judged by itself (convergence.min_frames)"
            )
            cure = "such conditions are judged together: more steps or structures tell them apart"
            yield warning(f"stages[{number}]", sentence, cure)


def _look_at_explored_range(run_file: RunFile) -> Iterator[Finding]:
    explored = [t for stage in run_file.stages for t in stage.temperatures]
    outside = [
        f"{t:g}"
        for t in run_file.validation.temperatures
        if not min(explored) <= t <= max(explored)
    ]
    if outside:
        sentence = (
            f"{', '.join(outside)} K: outside the explored {min(explored):g} to {max(explored):g} K"
        )
        yield warning("validation.temperatures", sentence, "the errors will be of extrapolation")


def look_at_limits(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the limits leave anything for the loop."""
    limits = run_file.limits
    if limits.max_turns is not None and limits.max_turns < len(run_file.stages):
        sentence = (
            f"{limits.max_turns} turns do not reach the last of {len(run_file.stages)} stages"
        )
        yield warning("limits.max_turns", sentence, "raise it, or leave stages out")
    if limits.max_labels is None:
        return
    first = first_labels(run_file, inputs.structures) + sum(map(len, inputs.data))
    left = limits.max_labels - first - n_validation(run_file)
    wanted = labels_of(run_file, run_file.stages[0])
    account = f"{first} initial labels and {n_validation(run_file)} of the validation"
    if left <= 0:
        sentence = f"{account} leave nothing of {limits.max_labels} for the loop"
        yield error("limits.max_labels", sentence, "raise it, or lower the initial labels")
    elif left < wanted:
        sentence = f"{account} leave {left}, less than one turn's {wanted}"
        yield warning("limits.max_labels", sentence, "raise it")


def look_at_store(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the store can be reached and written; a file is not created."""
    file = run_file.store_file
    if file is not None and not file.exists():
        folder = _existing(file.parent)
        if folder != file.parent:
            yield error("store", f"the folder {file.parent} does not exist", "create it")
        elif not os.access(folder, os.W_OK):
            yield error("store", f"{folder} is not writable", "name another place")
        else:
            yield ok("store", f"{file} will be created")
        return
    if file is not None and not os.access(file, os.W_OK):
        yield error("store", f"{file} is not writable", "name another place")
        return
    yield from _look_into_store(run_file)


def _look_into_store(run_file: RunFile) -> Iterator[Finding]:
    try:
        with closing(open_store(run_file.store, read_only=True)) as store:
            yield ok("store", f"{describe(store)} is there")
            yield from _look_at_doubtful_labels(run_file.label.doubtful_keys, store)
            yield from _look_at_other_levels(run_file, store)
    except EmptyStoreError:  # perhaps because another run has just created it
        yield ok("store", f"{run_file.store_file} is empty: nothing is stored yet")
    except StoreError as problem:
        yield error("store", str(problem))


def _look_at_doubtful_labels(keys: list[str], store: LoopStore) -> Iterator[Finding]:
    criteria = {"level": {"$in": keys}, "status": LabelStatus.ACCEPTED.value}
    if n := collection(store, "labels").count(criteria) if keys else 0:
        sentence = (
            f"{n} labels of version 0.1 are not taken: they may be of this level of theory, but "
            "their key does not say all that decides it"
        )
        cure = (
            "if you know that they are of it, export their run's data set (ionloop export RUN "
            "dataset) and name it in initial.data with same_level: true"
        )
        yield warning("label", sentence, cure)


def _look_at_other_levels(run_file: RunFile, store: LoopStore) -> Iterator[Finding]:
    """Say which labels of the same code are there and will not be taken."""
    level = _level(run_file)
    if level is None:
        return
    labels = collection(store, "labels")
    accepted = {"status": LabelStatus.ACCEPTED.value}
    for found in labels.distinct("level"):
        criteria = {**accepted, "level": found}
        one = labels.query_one(criteria, properties=["level_words", "species"])
        if one is None or not level.is_same_code(one.get("level_words", "")):
            continue
        if found in [*level.keys(one["species"]), *run_file.label.doubtful_keys]:
            continue
        sentence = (
            f"the store has {labels.count(criteria)} labels at {one['level_words']}, which are not "
            "taken: nothing proves that this is the level of this run"
        )
        yield ok("label", sentence)


def _level(run_file: RunFile) -> LevelOfTheory | None:
    try:
        return run_file.label.maker().level
    except (ImportError, OSError, ValueError, RuntimeError):  # said where the labeller is looked at
        return None


def look_at_machine(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look at scratch, free disk and cores."""
    folder = _existing(run_file.scratch_folder)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield error("scratch", f"{folder} is not a writable folder", "name another place")
    else:
        free = shutil.disk_usage(folder).free
        note = warning if free < FREE_BYTES else ok
        yield note("scratch", f"{free / 1e9:.1f} GB are free in {folder}")
    here = len(os.sched_getaffinity(0))
    if run_file.cores is not None and run_file.cores > here:
        sentence = f"{run_file.cores} cores are more than the {here} of this machine"
        yield warning("cores", sentence, "jobs will get into each other's way: lower it")


def _existing(folder: Path) -> Path:
    """Return the nearest folder that exists, the given one or one above it."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def look_at_runner(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Ask the engine whether it can take the run."""
    yield from look_at_engine(run_file)


LOOKS: Mapping[str, Callable[[RunFile, Inputs], Iterator[Finding]]] = {
    "cells and distances": look_at_cells,
    "the type map": look_at_types,
    "the first training set": look_at_data,
    "the labels that are there": look_at_numbers,
    "the labeller, which is started": look_at_labeller,
    "the k-points": look_at_kpoints,
    "the trainer, which is started": look_at_trainer,
    "the explorer, which is started": look_at_explorer,
    "the production training": look_at_production,
    "the stages": look_at_stages,
    "the limits": look_at_limits,
    "the store": look_at_store,
    "this machine": look_at_machine,
    "the runner": look_at_runner,
}
