"""The pre-flight check: what a run needs, before it costs anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ionloop.preflight import data, loop, machine
from ionloop.preflight.codes.base import look_at_code, look_at_known_labels
from ionloop.preflight.cost import Estimate, estimate
from ionloop.preflight.distillation import look_at_distillation
from ionloop.preflight.findings import Finding
from ionloop.preflight.first_labels import look_at_first_labels
from ionloop.preflight.inputs import Inputs, read_inputs
from ionloop.preflight.plan import plan
from ionloop.preflight.sampling import look_at_kpoints
from ionloop.preflight.store import look_at_store
from ionloop.runfile.model import RunFile
from ionloop.schemas.document import Model

LOOKS: Mapping[str, Callable[[RunFile, Inputs], Iterable[Finding]]] = {
    "cells and distances": data.look_at_cells,
    "the type map": data.look_at_types,
    "the first training set": data.look_at_data,
    "the labels that are there": data.look_at_labels,
    "the labeller, which is started": lambda run, has: look_at_code(run.label, has.elements),
    "the k-points": look_at_kpoints,
    "the trainer, which is started": lambda run, has: look_at_code(run.train, has.elements),
    "its base, and the data": lambda run, has: look_at_known_labels(run.train, has.data),
    "the length of the trainings": loop.look_at_schedules,
    "the explorer, which is started": loop.look_at_explorer,
    "the production training": loop.look_at_production,
    "the teacher and its students": look_at_distillation,
    "the stages": loop.look_at_stages,
    "the limits": loop.look_at_limits,
    "the store": look_at_store,
    "this machine": machine.look_at_machine,
    "the runner": machine.look_at_engine,
}


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
    run_file: RunFile, tell: Callable[[str], None] = lambda topic: None, *, probe: bool = False
) -> Report:
    """Check a run file before anything costly happens.

    Programs are started for their versions and the labeller's model is loaded, which takes some
    seconds. Nothing is left behind: what an engine writes to see its store is removed again.

    Parameters
    ----------
    run_file
        What to check.
    tell
        Is called with what is looked at next.
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
    for topic, look in LOOKS.items():
        tell(topic)
        findings += look(run_file, inputs)
    if probe and not any(finding.level == "error" for finding in findings):
        tell("the labeller, on cells of two atoms")
        findings += look_at_first_labels(run_file, inputs)
    return Report(
        findings=findings,
        plan=plan(run_file, inputs.structures),
        estimate=estimate(run_file, inputs.structures),
    )
