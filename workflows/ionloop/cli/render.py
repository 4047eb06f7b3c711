"""What commands print: findings, plans, outcomes, errors, JSON."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from ionloop.engines.local.execution import RunSummary
    from ionloop.preflight.check import Report
    from ionloop.schemas.job import JobRow
    from ionloop.schemas.potential import ForceErrors
    from ionloop.schemas.run import SummaryDoc

DEFAULT_STORE = "ionloop.db"
MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}


def out() -> Console:
    """Return the console of results."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Return the console of progress and errors, which leaves standard output to results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode())


def print_refusal(errors: Sequence[str]) -> None:
    """Print as JSON why a command was refused or failed, a sentence each."""
    print_json({"ok": False, "errors": list(errors)})


@contextmanager
def working(doing: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that something is done, and at which part of it; gone at the end."""
    with err().status(f"{escape(doing)} …") as status:
        yield lambda part: status.update(f"{escape(doing)}: {escape(part)} …")


def print_error(sentence: str) -> None:
    """Print a sentence in red to standard error."""
    err().print(f"[red]{escape(sentence)}[/]")


def print_report(report: Report, console: Console) -> None:
    """Print what the check found, what will happen, and the cost."""
    for finding in report.findings:
        cure = f"; {finding.cure}" if finding.cure else ""
        console.print(f"{MARKS[finding.level]} {finding.key}: {escape(finding.sentence + cure)}")
    console.print("\n[bold]What will happen[/]")
    for step in report.plan:
        console.print(f"  {escape(step)}")
    console.print(f"\n[bold]What it costs[/]\n  {report.estimate.sentence}\n")


def print_outcome(ended: RunSummary, document: SummaryDoc | None, store: str) -> None:
    """Print how a run on this machine ended: its failures, and its summary if it has one."""
    console = out()
    for failure in ended.failures:
        console.print(f"[yellow]![/] {escape(failure.summary)} (see {failure.folder})")
    if ended.interrupted:
        console.print(f"stopped on request; continue with: {command('resume', ended.run, store)}")
    if document is not None:
        print_summary(ended.run, document, store)


def print_summary(run: str, document: SummaryDoc, store: str) -> None:
    """Print what a run has reached, and the commands that come next."""
    for line in [*summary_lines(run, document), *next_steps(run, store)]:
        out().print(line, markup=False)


def outcome(ended: RunSummary, document: SummaryDoc | None) -> dict[str, Any]:
    """Return how a run on this machine ended as plain values."""
    return queue_outcome(ended.run, document) | {
        "ok": document is not None and not ended.interrupted,
        "interrupted": ended.interrupted,
        "jobs": dict(ended.counts),
        "failures": [failure.summary for failure in ended.failures],
    }


def queue_outcome(run: str, document: SummaryDoc | None) -> dict[str, Any]:
    """Return how a run on a queue ended as plain values."""
    return {
        "run": run,
        "ok": document is not None,
        "summary": document.model_dump(mode="json", exclude={"potential"}) if document else None,
    }


@contextmanager
def job_counts(run: str) -> Iterator[Callable[[Sequence[JobRow]], None]]:
    """Show a line of counts that changes in place; where there is no terminal, at every change."""
    console, last = err(), ""
    with console.status(f"run {run}") as status:

        def show(rows: Sequence[JobRow]) -> None:
            nonlocal last
            counts = Counter(row.state.value for row in rows)
            turns = [row.iteration for row in rows if row.iteration is not None]
            turn = f"turn {max(turns)}, " if turns else ""
            states = ", ".join(f"{n} {state}" for state, n in counts.items())
            line = f"run {run}: {turn}jobs so far: {states}"
            status.update(line)
            if not console.is_terminal and line != last:
                console.print(line, markup=False)
            last = line

        yield show


def summary_lines(run: str, document: SummaryDoc) -> list[str]:
    """Say what a run has reached."""
    fractions = " → ".join(f"{fraction:.3f}" for fraction in document.accurate_fractions)
    ending = "converged" if document.converged else "not converged"
    lines = [
        f"run {run}: {ending} after {document.n_turns} turns: {document.reason}",
        f"accurate fraction of all frames by turn: {fractions}",
        f"labels: {document.n_labels} requested, {document.n_accepted} accepted",
        f"core hours: {document.core_hours:.2f}",
        *training_lines(document.train_errors),
    ]
    if document.validation is not None:
        temperatures = ", ".join(f"{t:g}" for t in document.validation.temperatures)
        lines.append(
            f"on unseen frames at {temperatures} K{document.validation.which}: "
            f"{errors_words(document.validation.errors)}"
        )
    lines += [f"ended early in the last turn: {each.words}" for each in document.unfinished]
    return [*lines, *(f"note: {note}" for note in document.notes)]


def training_lines(errors: Sequence[ForceErrors]) -> list[str]:
    """Say what the potential reaches on the frames that it was trained on."""
    return [f"on the training frames: {errors_words(each)}" for each in errors[:1]]


def errors_words(errors: ForceErrors) -> str:
    """Return errors in words, the force error beside the forces' own size."""
    force, size = errors.force_mev_per_angstrom, errors.force_rms_mev_per_angstrom
    return (
        f"force RMSE {force:.0f} meV/Å ({force / size:.0%} of the forces' RMS, {size:.0f} meV/Å), "
        f"energy RMSE {errors.energy_mev_per_atom:.1f} meV/atom, {errors.n_frames} frames"
    )


def next_steps(run: str, store: str) -> list[str]:
    """Name the commands that come next."""
    steps = {
        command("export", f"{run} models", store): "the potential, as files",
        command("export", f"{run} dataset", store): "the labelled frames",
        command("status", run, store): "turn by turn",
    }
    width = max(map(len, steps))
    return ["next:", *(f"  {step:{width}}  {meaning}" for step, meaning in steps.items())]


def command(name: str, arguments: str, store: str) -> str:
    """Return a command of ionloop, with its store where that is not the default."""
    if "://" not in store:
        store = os.path.relpath(store)
    return f"ionloop {name} {arguments}{'' if store == DEFAULT_STORE else f' --store {store}'}"
