"""Commands that change the course of a run: retry, recover, pause, cancel, place."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ionloop.cli import render
from ionloop.cli.options import Common, RunArgument


def retry(
    run: RunArgument,
    role: Annotated[str | None, typer.Option(help="Only jobs of this role.")] = None,
    error: Annotated[
        str | None, typer.Option(help="Only jobs whose error contains this text.")
    ] = None,
    *,
    given: Common,
) -> None:
    """Try failed jobs again, also those whose worker was lost.

    What is in the store is not calculated again.

    \b
    ionloop retry lgps
    ionloop retry lgps --role label --error "walltime"
    """  # noqa: D301 (typer's mark for lines to keep)
    from ionloop.runs import queue

    _count(queue.retry(given.store, run, role, error), "tried again", given)


def recover(
    run: RunArgument,
    every: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until interrupted.")
    ] = None,
    *,
    given: Common,
) -> None:
    """Try again what was lost with its worker: a node that failed, a time limit, a preemption.

    \b
    ionloop recover lgps
    ionloop recover lgps --every 300
    """  # noqa: D301
    from ionloop.runs import queue

    while True:
        _count(queue.recover(given.store, run), "tried again", given)
        if every is None:
            return
        time.sleep(every)


def pause(run: RunArgument, *, given: Common) -> None:
    """Hold the jobs that have not started; `ionloop resume` releases them.

    \b
    ionloop pause lgps
    """  # noqa: D301
    from ionloop.runs import queue

    _count(queue.pause(given.store, run), "held", given)


def cancel(run: RunArgument, *, given: Common) -> None:
    """End a run for good; its labels and models stay in the store.

    \b
    ionloop cancel lgps
    """  # noqa: D301
    from ionloop.runs import queue

    _count(queue.cancel(given.store, run), "cancelled", given)


def place(
    run: RunArgument,
    run_file: Annotated[
        Path, typer.Argument(help="A run file with other resources.", metavar="RUN.yaml")
    ],
    *,
    given: Common,
) -> None:
    """Give a run other resources (queue, worker, time) for all jobs that have not started.

    Only the section `resources` of the run file is read. Nothing is calculated again.

    \b
    ionloop place lgps run.yaml
    """  # noqa: D301
    from ionloop.runfile.reading import load
    from ionloop.runs import queue

    _count(queue.place(given.store, run, load(run_file).resources), "placed anew", given)


def _count(n: int, done: str, given: Common) -> None:
    render.answer(given.as_json, {"jobs": n}, f"{n} job(s) {done}")


COMMANDS = (retry, recover, pause, cancel, place)
