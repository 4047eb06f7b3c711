"""The pre-flight check of a production of another code, and of one that is taught."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ionloop.preflight.codes.base import look_at_code, look_at_models
from ionloop.preflight.cost import first_labels, n_starts
from ionloop.preflight.findings import Finding, error, ok, warning
from ionloop.preflight.inputs import Inputs
from ionloop.runfile.model import RunFile
from ionloop.runfile.sections.production import DistillationSection
from ionloop.schemas.errors import InputError
from ionloop.schemas.frames import Frames

FEWEST = 5
"""Held-back labels below which the teacher's error on them decides badly."""


def look_at_distillation(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look for the code of the production, and whether its teacher can teach.

    Parameters
    ----------
    run_file
        What to check.
    inputs
        What was read of structures and data.
    """
    production, section = run_file.production, run_file.production_section
    if production.code not in (None, run_file.train.code):
        yield from _moved(look_at_code(section, inputs.elements), "train", "production")
    if production.teacher is None:
        return
    yield from _look_at_students(run_file, inputs)
    yield from _look_at_frames(run_file, production.teacher, inputs.structures)
    n_labels = first_labels(run_file, inputs.structures) + sum(map(len, inputs.data))
    held = run_file.train.validation_fraction * n_labels
    if held < FEWEST:
        sentence = (
            f"of the first {n_labels} labels about {held:.3g} are held back from the teacher, "
            "whose error on them decides when its students are good enough"
        )
        yield warning("train.validation_fraction", sentence, "raise it")
    sentence = f"the teacher labels up to {production.teacher.most_frames} frames, none is bought"
    yield ok("production.teacher", sentence)


def _look_at_students(run_file: RunFile, inputs: Inputs) -> Iterator[Finding]:
    """Look whether the students can explore."""
    explorer, section = run_file.student_explorer, run_file.production_section
    key = "production.teacher.explore"
    if explorer is not run_file.explore:
        yield from _moved(look_at_code(explorer, inputs.elements), "explore", key)
    try:
        explorer.maker(inputs.elements).check_kind(section.maker_type.kind)
    except InputError as problem:
        yield error(key, str(problem).removeprefix("explore: "))
        return
    yield from _moved(look_at_models(explorer, section), "explore", key)


def _look_at_frames(
    run_file: RunFile, teacher: DistillationSection, structures: Sequence[Frames]
) -> Iterator[Finding]:
    """Look whether the molecular dynamics gives the frames that are asked for."""
    parts = {
        "n_own": (run_file.explore, teacher.own_stage_of(run_file.stages)),
        "n_frames": (run_file.student_explorer, teacher.stage_of(run_file.stages)),
    }
    for key, (explorer, stage) in parts.items():
        n = len(stage.conditions) * stage.n_structures * n_starts(structures)
        kept = min(stage.n_counted, getattr(explorer, "max_candidates", stage.n_counted))
        asked = getattr(teacher, key)
        if n and n * kept < asked:
            sentence = (
                f"{asked} frames are asked for, and the molecular dynamics gives {n * kept}: "
                f"{n} trajectories with {kept} frames each"
            )
            where = "own_stage" if key == "n_own" and teacher.own_stage else "stage"
            cure = f"as many are labelled as there are; give production.teacher.{where} more steps"
            yield warning(f"production.teacher.{key}", sentence, cure)


def _moved(findings: Iterable[Finding], before: str, after: str) -> Iterator[Finding]:
    """Yield findings on a code under the key of the section that it is named in."""
    for each in findings:
        key = each.key.removeprefix(before)
        yield each.model_copy(update={"key": f"{after}{key}" if key != each.key else each.key})
