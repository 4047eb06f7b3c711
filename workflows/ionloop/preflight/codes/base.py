"""What the pre-flight check and the estimate ask about a code, whichever it is.

Each question is a function that dispatches on the section class; the answer here is that of a
code of which nothing is known. A code gives its own answers with ``@look_at_code.register``
and so on: in a file of this folder, or in the file of its section class if it is not ionloop's.

The rates are those of single runs on one core of a shared machine, ±30 %; they serve an estimate
that says it is rough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import singledispatch
from math import nan

from ionloop.preflight.findings import Finding, error, ok, sentence_of
from ionloop.runfile.sections.base import CodeSection, ExploreSection, LabelSection, TrainSection
from ionloop.schemas.frames import Frames


@singledispatch
def look_at_code(section: CodeSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Look whether a code is there and fits the elements.

    Parameters
    ----------
    section
        The code's section of the run file.
    elements
        Chemical symbols of structures and data.
    """
    yield from ()


@look_at_code.register(LabelSection)
def _look_at_labeller(section: LabelSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Say of which level of theory the labels are."""
    try:
        yield level_finding(section)
    except Exception as problem:  # noqa: BLE001  # a labeller of the user may raise anything
        yield error("label", f"{section.code} cannot be used: {sentence_of(problem)}")


@singledispatch
def look_at_models(explorer: ExploreSection, trainer: TrainSection) -> Iterator[Finding]:
    """Look whether the explorer loads the models that the trainer makes.

    Parameters
    ----------
    explorer
        The section `explore` of the run file.
    trainer
        The section `train`.
    """
    yield from ()


@singledispatch
def label_seconds(section: LabelSection, n_atoms: int) -> float:
    """Estimate the core seconds of one label, nan where nothing is known.

    Parameters
    ----------
    section
        The section `label` of the run file.
    n_atoms
        Atoms of the frame.
    """
    return nan


@singledispatch
def dynamics_seconds(section: LabelSection, n_atoms: int) -> float:
    """Estimate the core seconds of one step of the labeller's own molecular dynamics.

    Parameters
    ----------
    section
        The section `label` of the run file.
    n_atoms
        Atoms of the frame.

    Returns
    -------
    float
        By default as many as a label takes.
    """
    return label_seconds(section, n_atoms)


@singledispatch
def training_seconds(section: TrainSection, n_atoms: int, *, warm: bool) -> float:
    """Estimate the core seconds of the training of one model, nan where nothing is known.

    Parameters
    ----------
    section
        The section `train` of the run file, or that of the production.
    n_atoms
        Atoms of a frame.
    warm
        Whether it starts from a model of the turn before.
    """
    return nan


@singledispatch
def look_at_known_labels(section: TrainSection, frames: Sequence[Frames]) -> Iterator[Finding]:
    """Look whether labels that are there already are of a kind that the trainer's base knows.

    Parameters
    ----------
    section
        The section `train` of the run file.
    frames
        Labelled frames.
    """
    yield from ()


@singledispatch
def look_at_schedule(section: TrainSection, key: str, *, warm: bool) -> Iterator[Finding]:
    """Look whether a training is long enough, and learns until its end.

    Parameters
    ----------
    section
        The section `train` of the run file, or that of the production.
    key
        What it is called in the run file.
    warm
        Whether it starts from a model of the turn before.
    """
    yield from ()


@singledispatch
def step_seconds(
    section: ExploreSection, trainer: TrainSection, n_atoms: int, n_models: int, dump_every: int
) -> float:
    """Estimate the core seconds of one step of molecular dynamics, nan where nothing is known.

    Parameters
    ----------
    section
        The section `explore` of the run file.
    trainer
        The section of the trainer that makes the models.
    n_atoms
        Atoms of the cell.
    n_models
        Models of the ensemble.
    dump_every
        Steps from one frame that is judged to the next.
    """
    return nan


def level_finding(section: LabelSection) -> Finding:
    """Return the finding that says of which level of theory the labels are."""
    return ok("label", f"labels come from {section.maker().level.description}")
