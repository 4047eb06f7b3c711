"""Commands that look at runs: status, frames, export, show."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ionloop.cli import render
from ionloop.cli.options import Common, IterationOption, RunArgument

if TYPE_CHECKING:
    from jobflow.core.store import JobStore

    from ionloop.schemas.job import JobRow
    from ionloop.stores.connect import LoopStore


@dataclass(frozen=True)
class FrameFilter:
    """Options that say which frames to list."""

    iteration: IterationOption = None
    verdict: Annotated[str | None, typer.Option(help="accurate, candidate, failed or skipped.")] = (
        None
    )
    temperature: Annotated[float | None, typer.Option(help="Thermostat's, in K.")] = None
    reason: Annotated[str | None, typer.Option(help="Text that the reason contains.")] = None
    limit: Annotated[int, typer.Option(min=0, help="Most frames to show; 0 for all.")] = 20


@dataclass(frozen=True)
class ExportOptions:
    """Options that say what of an export to write, and where."""

    out: Annotated[
        Path | None, typer.Option(help="Folder to write into.", show_default="export/RUN")
    ] = None
    fmt: Annotated[
        str, typer.Option("--format", help="Of a data set: deepmd/npy, deepmd/hdf5 or extxyz.")
    ] = "deepmd/npy"
    iteration: IterationOption = None
    split: Annotated[
        bool, typer.Option("--split", help="Data set: training and validation apart.")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False


def status(
    run: Annotated[str | None, typer.Argument(help="Id of a run; all runs if absent.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show the status anew every 5 s.")] = False,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Show the state of every job, whoever runs it.")
    ] = False,
    *,
    given: Common,
) -> None:
    """Show all runs, or one run turn by turn.

    \b
    ionloop status
    ionloop status lgps
    ionloop status lgps --watch
    ionloop status lgps --jobs
    ionloop status lgps --json --store mongodb://server/ionloop
    """  # noqa: D301 (typer's mark for lines to keep)
    from ionloop.monitor.tables import jobs_table

    url = given.store
    with _looking_at(url) as store:
        if watch and not given.as_json:
            _watch(store, run, url)
        elif jobs and run is not None and not given.as_json:
            render.show(jobs_table(_engine_rows(store, run, url)))
        else:
            data = status_data(store, run, url)
            render.answer(given.as_json, data, _status_view(data, run, url))


def frames(
    run: RunArgument,
    wanted: FrameFilter,
    poscar: Annotated[
        Path | None, typer.Option(help="Write the frames as POSCARs into this new folder.")
    ] = None,
    *,
    given: Common,
) -> None:
    """List explored frames with verdict, reason and what became of their label.

    \b
    ionloop frames lgps --iteration 2 --verdict failed
    ionloop frames lgps --temperature 600 --reason "too near" --limit 0
    ionloop frames lgps --verdict candidate --limit 50 --poscar candidates
    """  # noqa: D301
    from ionloop.monitor import frames as judged
    from ionloop.monitor.tables import frames_table

    limit = wanted.limit
    criteria = vars(wanted) | {"limit": limit or None}
    with _looking_at(given.store) as store:
        found = judged.frames(store, run, **criteria)
        parts: list[Any] = [frames_table(found)] if len(found) else ["no frame fits"]
        if len(found) and len(found) == limit:
            parts.append(f"the first {limit}; more with --limit")
        if poscar:
            from ionloop.export.frames import export_poscars

            ids = found["frame_id"].tolist() if len(found) else []
            written = export_poscars(store, run, ids, poscar)
            parts.append(f"{len(written)} of {len(found)} written to {poscar}")
        render.answer(given.as_json, [*found.rows()], *parts)


def export(
    run: RunArgument,
    what: Annotated[Literal["dataset", "models", "figure"], typer.Argument(help="What to write.")],
    options: ExportOptions,
    *,
    given: Common,
) -> None:
    """Write a run's data set, models or figure.

    Without --iteration: the data set after the last turn, the production potential.

    \b
    ionloop export lgps dataset --format extxyz --out data
    ionloop export lgps dataset --split
    ionloop export lgps models
    ionloop export lgps models --iteration 2
    ionloop export lgps figure
    """  # noqa: D301
    with _looking_at(given.store) as store:
        written = [str(path) for path in _export(store, run, what, options)]
        render.answer(given.as_json, written, *written)


def show(
    key: Annotated[
        str,
        typer.Argument(help="Id of a run, job, label or frame; the first characters are enough."),
    ],
    *,
    given: Common,
) -> None:
    """Show one stored document; arrays are named, not printed.

    \b
    ionloop show lgps
    ionloop show 3f9a61d2
    ionloop show 3f9a61d2 --json
    """  # noqa: D301
    from rich.pretty import Pretty
    from rich.text import Text

    from ionloop.monitor.lookup import document

    with _looking_at(given.store) as store:
        found = document(store, key)
        title = Text(f"{found.kind} {found.key}", style="bold")
        content = Pretty(found.content, max_length=12, expand_all=True)
        render.answer(given.as_json, found, title, content)


def _looking_at(url: str) -> contextlib.closing[LoopStore]:
    """Open an existing store, to read only."""
    from ionloop.stores.connect import open_store

    return contextlib.closing(open_store(url, read_only=True))


def _engine_rows(store: JobStore, run: str, url: str) -> list[JobRow]:
    """Return the jobs of a run as the engine that runs it shows them."""
    from ionloop.monitor.records import check_run, run_record
    from ionloop.schemas.run import engine_name
    from ionloop.stores.journal import journal_rows

    check_run(store, run)
    if engine_name(run_record(store, run)) == "local":
        return journal_rows(store, run)
    from ionloop.runs import queue

    return queue.jobs(url, run)


def status_data(store: JobStore, run: str | None, url: str) -> Any:
    """Return what the status shows: the rows of all runs, or one run."""
    from ionloop.monitor import runs

    if run is None:
        return runs.runs(store)
    return runs.status(store, run, _engine_rows(store, run, url))


def _status_view(data: Any, run: str | None, url: str) -> Any:
    """Return the status as it is printed."""
    from ionloop.monitor import tables

    if run is None:
        return tables.runs_table(data) if data else "no runs yet; begin with: ionloop run run.yaml"
    standing = data.standing
    if standing.cure:
        standing = standing.model_copy(update={"cure": render.with_store(standing.cure, url)})
    return tables.run_view(data.model_copy(update={"standing": standing}))


def _watch(store: JobStore, run: str | None, url: str) -> None:
    """Show the status every 5 s, until the run has ended or the user interrupts."""
    import time

    from rich.live import Live

    with contextlib.suppress(KeyboardInterrupt), Live(console=render.out()) as live:
        while True:
            data = status_data(store, run, url)
            live.update(_status_view(data, run, url), refresh=True)
            if run is not None and data.standing.state != "running":
                return
            time.sleep(5)


def _export(store: JobStore, run: str, what: str, options: ExportOptions) -> list[Path]:
    folder, iteration, force = options.out or Path("export") / run, options.iteration, options.force
    if what == "dataset":
        from ionloop.export.frames import export_dataset

        return export_dataset(store, run, folder, options.fmt, iteration, options.split, force)
    if what == "models":
        from ionloop.export.models import export_models

        return export_models(store, run, folder, iteration, force)
    from ionloop.export.folder import prepare_targets
    from ionloop.monitor.figure import learning_figure

    figure, path = learning_figure(store, run), folder / "learning.png"
    prepare_targets([path], force)
    figure.savefig(path)
    return [path]


COMMANDS = (status, frames, export, show)
