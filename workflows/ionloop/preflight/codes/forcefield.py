"""Universal potentials: whether the model can be loaded, its elements, and its speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import nan

from ionloop.codes.forcefield import model
from ionloop.preflight.codes.base import label_seconds, look_at_code
from ionloop.preflight.findings import Finding, error, ok, sentence_of, warning
from ionloop.runfile.sections.forcefield import ForceFieldSection

SECONDS_OF_50_ATOMS: Mapping[str, float] = {
    "7net-l3i5": 0.59,
    "7net-0": 0.21,
    "7net-mf-0": 0.21,
    "chgnet": 0.08,
}


@look_at_code.register(ForceFieldSection)
def _look_at_force_field(section: ForceFieldSection, elements: Sequence[str]) -> Iterator[Finding]:
    """Load the model, and compare its elements with those wanted."""
    try:
        level = section.maker().level
        model.calculator(section)
        covered = model.covered_elements(section)
    except Exception as problem:  # noqa: BLE001  # a calculator of the user may raise anything
        cure = "" if isinstance(problem, (ImportError, OSError, ValueError)) else "check it"
        sentence = f"{section.model} cannot be used: {sentence_of(problem)}"
        yield error("label.model", sentence, cure)
        return
    yield ok("label.model", f"labels come from {level.description}")
    missing = [symbol for symbol in elements if covered is not None and symbol not in covered]
    if covered is None:
        yield warning("label.model", f"{section.model} does not say which elements it covers")
    elif missing:
        sentence = f"{section.model} does not cover {', '.join(missing)}"
        yield error("label.model", sentence, "choose a labeller that covers every element")
    else:
        yield ok("label.model", f"{section.model} covers {', '.join(elements)}")


@label_seconds.register(ForceFieldSection)
def _force_field_seconds(section: ForceFieldSection, n_atoms: int) -> float:
    """Estimate the core seconds of one label; nan for a model that was not measured."""
    return SECONDS_OF_50_ATOMS.get(section.model.lower(), nan) * n_atoms / 50
