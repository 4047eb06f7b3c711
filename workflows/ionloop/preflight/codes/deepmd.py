"""DeePMD-kit: whether it is there, takes the network, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ionloop.codes import deepmd
from ionloop.codes.deepmd import warm_start
from ionloop.preflight.codes.base import look_at_code, training_seconds
from ionloop.preflight.findings import Finding, error, ok, sentence_of
from ionloop.runfile.sections.deepmd import DeepmdSection


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
