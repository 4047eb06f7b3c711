"""Commands that write, check, start and resume runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ionloop.cli import render

if TYPE_CHECKING:
    from ionloop.engines.local.execution import RunSummary
    from ionloop.engines.local.progress import Observer
    from ionloop.preflight.check import Report
    from ionloop.runfile.model import RunFile

BAD_INPUT, FAILED, PAUSED, STOPPED = 2, 1, 3, 130

RunFilePath = Annotated[Path, typer.Argument(help="The run file.", metavar="RUN.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StoreOption = Annotated[
    str, typer.Option("--store", envvar="IONLOOP_STORE", help="File or mongodb:// URL.")
]
OwnStore = Annotated[str | None, typer.Option("--store", help="Another store than the run file's.")]
RunnerOption = Annotated[
    Literal["local", "fireworks", "remote"] | None,
    typer.Option("--runner", help="Another runner than the run file's."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (init, check, run, resume):
        app.command()(command)


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

    for path in write_example(out, structures or [], force=force):
        render.out().print(f"wrote {path}")
    render.out().print(f"next: ionloop check {out}")


def check(
    run_file: RunFilePath,
    runner: RunnerOption = None,
    store: OwnStore = None,
    probe: Annotated[
        bool | None,
        typer.Option(
            help="Let GPAW, CP2K or VASP calculate cells of two atoms, on this host. "
            "By default where the runner is local."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run file will do, what it costs, and what is wrong or missing.

    \b
    ionloop check run.yaml
    ionloop check run.yaml --no-probe
    ionloop check run.yaml --json | jq .estimate
    """  # noqa: D301
    from ionloop.preflight.check import check as check_run_file

    settings = _load(run_file, store, runner)
    wanted = settings.runner == "local" if probe is None else probe
    with render.working(f"checking {run_file}") as tell:
        report = check_run_file(settings, tell, probe=wanted)
    if as_json:
        render.print_json({"ok": report.ok, **report.model_dump(mode="json")})
    else:
        render.print_report(report, render.out())
    _refuse(report, quiet=as_json)


def run(
    run_file: RunFilePath,
    runner: RunnerOption = None,
    store: OwnStore = None,
    or_resume: Annotated[
        bool, typer.Option("--or-resume", help="Take up the run of that name if there is one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a run file, then run it to its end: on this machine, or on a queue.

    On a queue the run goes on when this command is interrupted.

    \b
    ionloop run run.yaml
    ionloop run run.yaml --store mongodb://localhost/ionloop --json
    ionloop run run.yaml --runner fireworks
    """  # noqa: D301
    from ionloop.runs.launch import start
    from ionloop.runs.queue import submit
    from ionloop.runs.records import is_there

    settings = checked(run_file, store, runner, as_json)
    if or_resume and is_there(settings):
        _take_over(settings.name, settings)
    if settings.runner == "local":
        _finish(start(settings, _observer(), or_resume=or_resume), settings.store, as_json)
    else:
        follow(submit(settings, or_resume=or_resume), settings.store, as_json)


def resume(
    run_id: Annotated[
        str | None, typer.Argument(help="The run; the latest if none is given.", metavar="RUN")
    ] = None,
    store: StoreOption = render.DEFAULT_STORE,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed jobs again.")
    ] = False,
    run_file: Annotated[
        Path | None,
        typer.Option("--run-file", help="Take over tolerances changed here.", metavar="RUN.yaml"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take up a run that was interrupted or paused; finished jobs do not run again.

    Floors, limits, time limits, cores and resources may be changed in the run file meanwhile.

    \b
    ionloop resume
    ionloop resume lgps --run-file run.yaml
    ionloop resume lgps-2 --store demo/ionloop.db --retry-failed
    """  # noqa: D301
    from ionloop.runs import queue as engines
    from ionloop.runs.launch import resume as take_up
    from ionloop.runs.records import existing_store

    url = existing_store(store)
    if run_file is not None:
        _take_over(run_id, _load(run_file, url))
    if engines.engine_name(url, run_id) != "local":
        follow(engines.proceed(url, run_id, retry_failed=retry_failed), url, as_json)
        return
    ended = take_up(url, run_id, retry_failed=retry_failed, observer=_observer())
    _finish(ended, url, as_json)


def checked(path: Path, store: str | None, runner: str | None, as_json: bool) -> RunFile:
    """Load a run file and check it; leave if it cannot run."""
    from ionloop.preflight.check import check as check_run_file

    settings = _load(path, store, runner)
    with render.working(f"checking {path}") as tell:
        report = check_run_file(settings, tell)
    render.print_report(report, render.err())
    if as_json and not report.ok:
        render.print_refusal(_sentences(report))
    _refuse(report, quiet=True)
    return settings


def follow(run: str, store: str, as_json: bool) -> None:
    """Show a run on a queue until it ends; leave with 1 if it failed."""
    from ionloop.runs import queue as engines

    summary = None
    try:
        with render.job_counts(run) as show:
            summary = engines.follow(store, run, show)
    except KeyboardInterrupt:
        look = render.command("status", run, store)
        render.err().print(f"run {run} goes on without this command; look at it with: {look}")
        raise typer.Exit(STOPPED) from None
    if as_json:
        render.print_json(render.queue_outcome(run, summary))
    elif summary is not None:
        render.print_summary(run, summary, store)
    if summary is None:
        again = render.command("retry", run, store)
        render.print_error(f"run {run} failed; when the cause is mended: {again}")
        raise typer.Exit(FAILED)


def _load(path: Path, store: str | None, runner: str | None = None) -> RunFile:
    from ionloop.runfile.reading import load

    run_file = load(path)
    if runner is not None:
        run_file = run_file.model_copy(update={"runner": runner})
    return run_file if store is None else run_file.with_store(store)


def _take_over(run_id: str | None, given: RunFile) -> None:
    from ionloop.runs.queue import take_over

    for change in take_over(given.store, run_id, given):
        render.err().print(f"changed: {change.words}", markup=False, highlight=False)


def _refuse(report: Report, *, quiet: bool) -> None:
    if report.ok:
        return
    if quiet:
        for sentence in _sentences(report):
            render.print_error(sentence)
    raise typer.Exit(BAD_INPUT)


def _sentences(report: Report) -> list[str]:
    return [f"{each.key}: {each.sentence}; {each.cure}".rstrip("; ") for each in report.errors]


def _observer() -> Observer:
    from ionloop.engines.local.progress import RichProgress

    return RichProgress(render.err())


def _finish(ended: RunSummary, store: str, as_json: bool) -> None:
    from ionloop.runs.records import is_paused, summary

    document = summary(store, ended.run)
    if as_json:
        render.print_json(render.outcome(ended, document))
    else:
        render.print_outcome(ended, document, store)
    if ended.interrupted:
        raise typer.Exit(STOPPED)
    if document is None and is_paused(ended):
        raise typer.Exit(PAUSED)
    if document is None:
        again = render.command("resume", f"{ended.run} --retry-failed", store)
        render.print_error(f"run {ended.run} failed; when the cause is mended: {again}")
        raise typer.Exit(FAILED)
