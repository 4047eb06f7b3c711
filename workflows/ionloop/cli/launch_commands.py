"""Commands that write, check, start, submit and resume runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ionloop.cli import render
from ionloop.cli.options import Common, RunFileArgument, RunFileOptions

if TYPE_CHECKING:
    from ionloop.engines.local.execution import RunSummary
    from ionloop.engines.local.progress import Observer, Snapshot
    from ionloop.preflight.check import Report
    from ionloop.runfile.model import RunFile
    from ionloop.schemas.job import JobRow
    from ionloop.schemas.run import SummaryDoc

BAD_INPUT, FAILED, PAUSED, STOPPED = 2, 1, 3, 130
"""Exit codes."""


def init(
    structures: Annotated[
        list[Path] | None, typer.Argument(help="Start structures; an example if none is given.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The run file to write.")] = Path("run.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a commented run file.

    Without a structure it is for LGPS, and the structure is written too.

    \b
    ionloop init
    ionloop init Li3YCl6.cif --out li3ycl6.yaml
    """  # noqa: D301 (typer's mark for lines to keep)
    from ionloop.runfile.example import write_example

    written = write_example(out, structures or [], force=force)
    render.show(*(f"wrote {path}" for path in written), f"next: ionloop check {out}")


def check(
    run_file: RunFileArgument,
    probe: Annotated[
        bool | None,
        typer.Option(
            help="Let GPAW, CP2K or VASP calculate cells of two atoms, on this host. "
            "By default where the runner is local."
        ),
    ] = None,
    *,
    given: RunFileOptions,
) -> None:
    """Say what a run file will do, what it costs, and what is wrong or missing.

    \b
    ionloop check run.yaml
    ionloop check run.yaml --no-probe
    ionloop check run.yaml --json | jq .estimate
    """  # noqa: D301
    settings = _load(run_file, given)
    wanted = settings.runner == "local" if probe is None else probe
    report = _report(run_file, settings, wanted)
    values = {"ok": report.ok, **report.model_dump(mode="json")}
    render.answer(given.as_json, values, *render.report_parts(report))
    if not report.ok:
        if given.as_json:
            render.print_errors([*map(render.described, report.errors)])
        raise typer.Exit(BAD_INPUT)


def run(
    run_file: RunFileArgument,
    or_resume: Annotated[
        bool, typer.Option("--or-resume", help="Resume the run of that name if there is one.")
    ] = False,
    *,
    given: RunFileOptions,
) -> None:
    """Check a run file, then run it to its end: on this machine, or on a queue.

    On a queue the run goes on when this command is interrupted.

    \b
    ionloop run run.yaml
    ionloop run run.yaml --store mongodb://localhost/ionloop --json
    ionloop run run.yaml --runner fireworks
    """  # noqa: D301
    from ionloop.runs import launch, queue
    from ionloop.runs.records import is_there

    settings = _checked(run_file, given)
    if or_resume and is_there(settings):
        _take_over(settings.name, settings)
        _resume(settings.name, settings.store, given.as_json)
    elif settings.runner == "local":
        _finish(launch.start(settings, _progress()), settings.store, given.as_json)
    else:
        _follow(queue.submit(settings), settings.store, given.as_json)


def submit(run_file: RunFileArgument, *, given: RunFileOptions) -> None:
    """Check a run file, submit it to its runner, and return at once.

    \b
    ionloop submit run.yaml --runner fireworks
    ionloop submit run.yaml --runner remote --store mongodb://server/ionloop
    ionloop submit run.yaml            # in the background of this machine
    """  # noqa: D301
    from ionloop.runs import queue

    settings = _checked(run_file, given)
    run, runner = queue.submit(settings), settings.runner
    look = render.command("status", run, settings.store)
    sentence = f"run {run} is submitted to {runner}; look at it with: {look}"
    render.answer(given.as_json, {"run": run, "runner": runner}, sentence)


def resume(
    run_id: Annotated[
        str | None, typer.Argument(help="The run; the latest if none is given.", metavar="RUN")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed jobs again.")
    ] = False,
    run_file: Annotated[
        Path | None,
        typer.Option("--run-file", help="Use the tolerances changed here.", metavar="RUN.yaml"),
    ] = None,
    *,
    given: Common,
) -> None:
    """Resume a run that was interrupted or paused; finished jobs do not run again.

    Floors, limits, time limits, cores and resources may be changed in the run file meanwhile.

    \b
    ionloop resume
    ionloop resume lgps --run-file run.yaml
    ionloop resume lgps-2 --store demo/ionloop.db --retry-failed
    """  # noqa: D301
    from ionloop.runs.records import existing_store

    url = existing_store(given.store)
    if run_file is not None:
        _take_over(run_id, _load(run_file, RunFileOptions(store=url)))
    _resume(run_id, url, given.as_json, retry_failed)


def _load(path: Path, given: RunFileOptions) -> RunFile:
    from ionloop.runfile.reading import load

    run_file = load(path)
    if given.runner is not None:
        run_file = run_file.model_copy(update={"runner": given.runner})
    return run_file if given.store is None else run_file.with_store(given.store)


def _report(path: Path, settings: RunFile, probe: bool = False) -> Report:
    from ionloop.preflight.check import check as check_run_file

    with render.working(f"checking {path}") as tell:
        return check_run_file(settings, tell, probe=probe)


def _checked(path: Path, given: RunFileOptions) -> RunFile:
    """Load a run file and check it; exit if it cannot run."""
    settings = _load(path, given)
    report = _report(path, settings)
    for part in render.report_parts(report):
        render.err().print(part)
    if not report.ok:
        render.print_errors([*map(render.described, report.errors)], given.as_json)
        raise typer.Exit(BAD_INPUT)
    return settings


def _take_over(run_id: str | None, changed: RunFile) -> None:
    from ionloop.runs.launch import take_over

    for change in take_over(changed.store, run_id, changed):
        render.err().print(f"changed: {change.description}", markup=False)


def _resume(run_id: str | None, store: str, as_json: bool, retry_failed: bool = False) -> None:
    """Resume a run where its jobs are: on this machine, or on a queue."""
    from ionloop.runs import launch, queue

    if queue.engine_name(store, run_id) == "local":
        ended = launch.resume(store, run_id, retry_failed=retry_failed, observer=_progress())
        _finish(ended, store, as_json)
    else:
        _follow(queue.proceed(store, run_id, retry_failed=retry_failed), store, as_json)


def _progress() -> Observer:
    from ionloop.engines.local.progress import RichProgress

    return RichProgress(render.err())


def _follow(run: str, store: str, as_json: bool) -> None:
    """Show a run on a queue until it ends; exit with 1 if it failed."""
    from ionloop.runs import queue

    try:
        with closing(_progress()) as progress:
            end = queue.follow(store, run, lambda rows: progress.update(_snapshot(run, rows)))
    except KeyboardInterrupt:
        look = render.command("status", run, store)
        words = f"run {run} goes on without this command; look at it with: {look}"
        render.err().print(words, markup=False)
        raise typer.Exit(STOPPED) from None
    render.answer(as_json, _result(run, end), *_end_lines(run, end, store))
    if end is None:
        _fail(run, render.command("retry", run, store))


def _snapshot(run: str, rows: Sequence[JobRow]) -> Snapshot:
    """Return what the progress display shows of a run on a queue."""
    from ionloop.engines.local.progress import Running, Snapshot, count_by_role

    running = tuple(
        Running(row.name, row.role, cores=0, started=row.started or datetime.now(UTC))
        for row in rows
        if row.state == "running"
    )
    turns = [row.iteration for row in rows if row.iteration is not None]
    return Snapshot(run, count_by_role(rows), running, turn=max(turns, default=None))


def _finish(ended: RunSummary, store: str, as_json: bool) -> None:
    """Print how a run on this machine ended, and exit with the code that says so."""
    from ionloop.runs.records import is_paused, summary

    run, end = ended.run, summary(store, ended.run)
    values = _result(run, end) | {
        "ok": end is not None and not ended.interrupted,
        "interrupted": ended.interrupted,
        "jobs": dict(ended.counts),
        "failures": [failure.summary for failure in ended.failures],
    }
    failures = [
        render.marked("warning", f"{failure.summary} (see {failure.folder})")
        for failure in ended.failures
    ]
    again = render.command("resume", run, store)
    stopped = [f"stopped on request; continue with: {again}"] if ended.interrupted else []
    render.answer(as_json, values, *failures, *stopped, *_end_lines(run, end, store))
    if ended.interrupted:
        raise typer.Exit(STOPPED)
    if end is None and is_paused(ended):
        raise typer.Exit(PAUSED)
    if end is None:
        _fail(run, render.command("resume", f"{run} --retry-failed", store))


def _result(run: str, end: SummaryDoc | None) -> dict[str, Any]:
    summary = end.model_dump(mode="json", exclude={"potential"}) if end else None
    return {"run": run, "ok": end is not None, "summary": summary}


def _end_lines(run: str, end: SummaryDoc | None, store: str) -> list[str]:
    from ionloop.monitor.tables import summary_lines

    return [*summary_lines(run, end), *render.next_steps(run, store)] if end else []


def _fail(run: str, again: str) -> None:
    render.print_errors([f"run {run} failed; after you have removed the cause: {again}"])
    raise typer.Exit(FAILED)


COMMANDS = (init, check, run, resume, submit)
