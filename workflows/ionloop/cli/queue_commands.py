"""Commands that change the course of a run: submit, retry, tend, pause, cancel, place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ionloop.cli import render
from ionloop.cli.launch_commands import (
    AsJson,
    OwnStore,
    RunFilePath,
    RunnerOption,
    StoreOption,
    checked,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RunId = Annotated[str, typer.Argument(help="Id of the run (see ionloop status).", metavar="RUN")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (submit, retry, tend, pause, cancel, place):
        app.command()(command)


def submit(
    run_file: RunFilePath,
    runner: RunnerOption = None,
    store: OwnStore = None,
    as_json: AsJson = False,
) -> None:
    """Check a run file, hand it to its runner, and return at once.

    \b
    ionloop submit run.yaml --runner fireworks
    ionloop submit run.yaml --runner remote --store mongodb://server/ionloop
    ionloop submit run.yaml            # in the background of this machine
    """  # noqa: D301 (typer's mark for lines to keep)
    from ionloop.runs.queue import submit as hand_over

    settings = checked(run_file, store, runner, as_json)
    run = hand_over(settings)
    _say(
        as_json,
        {"run": run, "runner": settings.runner},
        f"run {run} is handed to {settings.runner}; look at it with: "
        + render.command("status", run, settings.store),
    )


def retry(
    run: RunId,
    role: Annotated[str | None, typer.Option(help="Only jobs of this role.")] = None,
    error: Annotated[str | None, typer.Option(help="Only errors that hold this text.")] = None,
    store: StoreOption = render.DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Try failed jobs again, also those whose worker was lost.

    What is in the store is not calculated again.

    \b
    ionloop retry lgps
    ionloop retry lgps --role label --error "walltime"
    """  # noqa: D301
    from ionloop.runs import queue as engines

    _count(lambda: engines.retry(store, run, role, error), "tried again", as_json)


def tend(
    run: RunId,
    every: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until interrupted.")
    ] = None,
    store: StoreOption = render.DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Try again what was lost with its worker: a node that failed, a time limit, a preemption.

    \b
    ionloop tend lgps
    ionloop tend lgps --every 300
    """  # noqa: D301
    import time

    from ionloop.runs import queue as engines

    while True:
        _count(lambda: engines.tend(store, run), "tried again", as_json)
        if every is None:
            return
        time.sleep(every)


def pause(run: RunId, store: StoreOption = render.DEFAULT_STORE, as_json: AsJson = False) -> None:
    """Hold what has not begun; `ionloop resume` releases it.

    \b
    ionloop pause lgps
    """  # noqa: D301
    from ionloop.runs import queue as engines

    _count(lambda: engines.pause(store, run), "held", as_json)


def cancel(run: RunId, store: StoreOption = render.DEFAULT_STORE, as_json: AsJson = False) -> None:
    """End a run for good; its labels and models stay in the store.

    \b
    ionloop cancel lgps
    """  # noqa: D301
    from ionloop.runs import queue as engines

    _count(lambda: engines.cancel(store, run), "cancelled", as_json)


def place(
    run: RunId,
    run_file: Annotated[
        Path, typer.Argument(help="A run file with other resources.", metavar="RUN.yaml")
    ],
    store: StoreOption = render.DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Give a run other resources: queue, worker, time, for what has not begun and all that follows.

    Only the section `resources` of the run file is read. Nothing is calculated again.

    \b
    ionloop place lgps run.yaml
    """  # noqa: D301
    from ionloop.runfile.reading import load
    from ionloop.runs import queue as engines

    resources = load(run_file).resources
    _count(lambda: engines.place(store, run, resources), "placed anew", as_json)


def _count(action: Callable[[], int], done: str, as_json: bool) -> None:
    n = action()
    _say(as_json, {"jobs": n}, f"{n} job(s) {done}")


def _say(as_json: bool, values: dict[str, object], sentence: str) -> None:
    if as_json:
        render.print_json(values)
    else:
        render.out().print(sentence)
