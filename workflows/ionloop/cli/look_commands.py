"""Commands that look at runs: status, frames, show, export."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from jobflow.core.store import JobStore

    from ionloop.schemas.job import JobRow

DEFAULT_STORE = "ionloop.db"

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="IONLOOP_STORE",
        help="File of the embedded store, or mongodb://host:port/database.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
IterationOption = Annotated[int | None, typer.Option(min=0, help="Turn, counted from 0.")]
RunArgument = Annotated[str, typer.Argument(help="Id of the run (see ionloop status).")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (status, frames, export, show):
        app.command()(command)


def status(
    run: Annotated[str | None, typer.Argument(help="Id of a run; all runs if absent.")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show anew every 5 s.")] = False,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Show the state of every job, whoever runs it.")
    ] = False,
) -> None:
    """Show all runs, or one run turn by turn.

    \b
    ionloop status
    ionloop status lgps
    ionloop status lgps --watch
    ionloop status lgps --jobs
    ionloop status lgps --json --store mongodb://server/ionloop
    """  # noqa: D301 (typer's mark for lines to keep)
    from rich.live import Live

    from ionloop.monitor import tables

    with looking_at(store) as opened:
        if as_json:
            print_json(status_data(opened, run, store))
        elif watch:
            with contextlib.suppress(KeyboardInterrupt), Live(console=console()) as live:
                keep_watching(live, opened, run, store)
        elif jobs and run is not None:
            console().print(tables.jobs_table(engine_rows(opened, run, store)))
        else:
            console().print(status_view(status_data(opened, run, store), run, store))


def frames(
    run: RunArgument,
    iteration: IterationOption = None,
    verdict: Annotated[
        str | None, typer.Option(help="accurate, candidate, failed or skipped.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Thermostat's, in K.")] = None,
    reason: Annotated[str | None, typer.Option(help="Words that the reason holds.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Most frames to show; 0 for all.")] = 20,
    poscar: Annotated[
        Path | None, typer.Option(help="Write the frames as POSCARs into this new folder.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """List explored frames with verdict, reason and the fate of their label.

    \b
    ionloop frames lgps --iteration 2 --verdict failed
    ionloop frames lgps --temperature 600 --reason "too near" --limit 0
    ionloop frames lgps --verdict candidate --limit 50 --poscar candidates
    """  # noqa: D301
    from ionloop.monitor.frames import frames as judged_frames

    with looking_at(store) as opened:
        found = judged_frames(
            opened, run, iteration, verdict, temperature, reason, limit=limit or None
        )
        written = write_poscars(opened, run, found, poscar) if poscar else []
        if as_json:
            print_json([*found.rows()])
        else:
            print_frames(found, limit, written)


def export(
    run: RunArgument,
    what: Annotated[Literal["dataset", "models", "figure"], typer.Argument(help="What to write.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write into.", show_default="export/RUN")
    ] = None,
    fmt: Annotated[
        str, typer.Option("--format", help="Of a data set: deepmd/npy, deepmd/hdf5 or extxyz.")
    ] = "deepmd/npy",
    iteration: IterationOption = None,
    split: Annotated[
        bool, typer.Option("--split", help="Data set: training and validation apart.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
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
    folder = out or Path("export") / run
    with looking_at(store) as opened:
        written = write_export(opened, run, what, folder, fmt, iteration, split, force)
        report_written(written, as_json)


def show(
    key: Annotated[
        str,
        typer.Argument(help="Id of a run, job, label or frame; the first characters are enough."),
    ],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show one stored document; arrays are named, not printed.

    \b
    ionloop show lgps
    ionloop show 3f9a61d2
    ionloop show 3f9a61d2 --json
    """  # noqa: D301
    from rich.pretty import Pretty

    from ionloop.monitor.lookup import document

    with looking_at(store) as opened:
        found = document(opened, key)
        if as_json:
            print_json(found)
        else:
            console().print(f"[bold]{found.kind} {found.key}[/]")
            console().print(Pretty(found.content, max_length=12, expand_all=True))


@contextlib.contextmanager
def looking_at(url: str) -> Iterator[JobStore]:
    """Open a store that is there, to read only."""
    from ionloop.stores.connect import open_store

    with contextlib.closing(open_store(url, read_only=True)) as store:
        yield store


def engine_rows(store: JobStore, run: str, url: str) -> list[JobRow]:
    """Return the table of job states from the engine that runs a run."""
    from ionloop.monitor.jobs import journal_rows
    from ionloop.monitor.records import check_run, engine_name
    from ionloop.runs import queue as engines

    check_run(store, run)
    if engine_name(store, run) == "local":
        return journal_rows(store, run)
    return engines.jobs(url, run)


def status_data(store: JobStore, run: str | None, url: str) -> Any:
    """Return all that the status shows, as rows."""
    from ionloop.monitor import runs

    if run is None:
        return runs.runs(store)
    return runs.status(store, run, engine_rows(store, run, url))


def status_view(data: Any, run: str | None, url: str) -> Any:
    """Return the status as it is printed."""
    from ionloop.monitor import tables

    if run is None:
        return tables.runs_table(data) if data else "no runs yet; begin with: ionloop run run.yaml"
    standing = data.standing
    if standing.cure and url != DEFAULT_STORE:
        standing = standing.model_copy(update={"cure": f"{standing.cure} --store {url}"})
    return tables.run_view(data.model_copy(update={"standing": standing}))


def keep_watching(live: Any, store: JobStore, run: str | None, url: str) -> None:
    """Show the status every 5 s, until the run has ended or somebody interrupts."""
    import time

    while True:
        data = status_data(store, run, url)
        live.update(status_view(data, run, url), refresh=True)
        if run is not None and data.standing.state != "running":
            return
        time.sleep(5)


def write_poscars(store: JobStore, run: str, found: Any, folder: Path) -> list[Path]:
    """Write the frames of a query."""
    from ionloop.export.frames import export_poscars

    ids = found["frame_id"].tolist() if len(found) else []
    return export_poscars(store, run, ids, folder)


def write_export(
    store: JobStore,
    run: str,
    what: str,
    folder: Path,
    fmt: str,
    iteration: int | None,
    split: bool,
    force: bool,
) -> list[Path]:
    """Write a data set, models or a figure, and return the paths."""
    from ionloop.export.folder import prepare_targets
    from ionloop.export.frames import export_dataset
    from ionloop.export.models import export_models
    from ionloop.monitor.figure import learning_figure
    from ionloop.monitor.records import check_run

    check_run(store, run)
    if what == "dataset":
        return export_dataset(store, run, folder, fmt, iteration, split, force)
    if what == "models":
        return export_models(store, run, folder, iteration, force)
    figure = learning_figure(store, run)
    path = folder / "learning.png"
    prepare_targets([path], force)
    figure.savefig(path)
    return [path]


def print_frames(found: Any, limit: int, written: list[Path]) -> None:
    """Print frames as a table, and say where they were written and whether there may be more."""
    from ionloop.monitor.tables import frames_table

    if not len(found):
        console().print("no frame fits")
        return
    console().print(frames_table(found))
    if len(found) == limit:
        console().print(f"the first {limit}; more with --limit")
    if written:
        console().print(f"{len(written)} of {len(found)} written to {written[0].parent}")


def report_written(written: list[Path], as_json: bool) -> None:
    """Print the paths of what was written."""
    paths = [str(path) for path in written]
    if as_json:
        print_json(paths)
    else:
        for path in paths:
            typer.echo(path)


def console() -> Any:
    """Return the console on standard output, wide enough for the tables when piped."""
    from rich.console import Console

    plain = Console()
    return plain if plain.is_terminal else Console(width=180)


def print_json(content: Any) -> None:
    """Print rows as JSON; a number that is not finite becomes null."""
    from pydantic_core import to_jsonable_python

    from ionloop.cli import render

    render.print_json(to_jsonable_python(content))
