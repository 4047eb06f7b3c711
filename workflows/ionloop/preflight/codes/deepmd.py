"""DeePMD-kit: whether it is there, takes the network, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ionloop.codes import deepmd
from ionloop.codes.deepmd import warm_start
from ionloop.preflight.codes.base import look_at_code, look_at_schedule, training_seconds
from ionloop.preflight.findings import Finding, error, ok, sentence_of, warning
from ionloop.runfile.sections.deepmd import DeepmdSection

FEWEST_STEPS = 1000
"""Steps of a training from scratch below which a network has hardly learned the forces."""

MOST_STILL = 0.3
"""Fraction of the steps that may pass while the network stands still.

A training that ends in a rate of 1e-6 after 8,000 steps is above it, the long ones of the field,
400,000 steps down to 3.5e-8, are below.
"""


@look_at_code.register(DeepmdSection)
def _look_at_deepmd(section: DeepmdSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Look for DeePMD-kit and the backend."""
    try:
        deepmd.check_backend(section.backend)
        version = deepmd.program_version(section.command)
    except deepmd.MissingProgramError as problem:
        yield error("train.command", sentence_of(problem))
        return
    yield ok("train.command", f"DeePMD-kit {version} trains, backend {section.backend}")
    if refusal := warm_start.refusal(section):
        sentence = f"DeePMD-kit does not take this dictionary: {refusal}"
        yield error("train.model", sentence, "correct it, or name a descriptor")


@look_at_schedule.register(DeepmdSection)
def _look_at_schedule(section: DeepmdSection, key: str, *, warm: bool) -> Iterator[Finding]:
    """Warn of a training that is too short, or whose learning rate is soon too low."""
    if warm and not section.warm_steps:
        return
    rates = section.schedule(warm)
    if not warm and rates.steps < FEWEST_STEPS:
        sentence = f"{rates.steps} steps are too few for a network to learn the forces"
        yield warning(f"{key}.steps", sentence, f"{FEWEST_STEPS} or more, better some thousand")
    if section.learning_rate_stop and rates.still > MOST_STILL:
        sentence = (
            f"in the last {rates.still:.0%} of {rates.steps} steps{' of a warm start' * warm} the "
            f"learning rate is below {rates.last_moving:.1g}, so that the network hardly changes"
        )
        cure = "raise it, or leave the learning rates out: they then fit the steps"
        yield warning(f"{key}.learning_rate_stop", sentence, cure)


@training_seconds.register(DeepmdSection)
def _deepmd_seconds(section: DeepmdSection, n_atoms: int, *, warm: bool) -> float:
    """Estimate the core seconds of one model: a fit to four nets on 50 atoms of LGPS."""
    neurons, fitting = section.neurons, section.fitting
    weights = (
        112 * (section.rcut / 6.0) ** 3 * _products([1, *neurons])
        + section.axis_neurons * neurons[-1] * fitting[0]
        + _products(fitting)
    )
    return section.training_steps(warm) * (2e-3 + n_atoms * (5e-5 + 8e-10 * weights)) + 15


def _products(layers: Sequence[int]) -> int:
    """Return the number of weights between layers of these sizes."""
    return sum(a * b for a, b in pairwise(layers))
