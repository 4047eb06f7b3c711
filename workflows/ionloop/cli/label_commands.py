"""The command that imports labels from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ionloop.cli import render

if TYPE_CHECKING:
    from ionloop.makers.label_external import Imported


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(label)


def label(
    run: Annotated[str, typer.Argument(help="Id of the run (see ionloop status).")],
    paths: Annotated[list[Path], typer.Argument(help="Finished calculations.", metavar="PATH...")],
    fmt: Annotated[
        str | None, typer.Option("--format", help="dpdata's or ASE's name; else worked out.")
    ] = None,
    check_units: Annotated[
        bool, typer.Option(help="Take nothing from files whose numbers look like other units.")
    ] = True,
    store: Annotated[
        str, typer.Option("--store", envvar="IONLOOP_STORE", help="File or mongodb:// URL.")
    ] = render.DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Import finished calculations of the frames that a run waits for.

    A calculation is recognised by its atoms, wherever it lies and whatever its file is called.

    \b
    ionloop label lgps to_label/lgps/turn-0/*/OUTCAR
    ionloop label lgps finished.extxyz --json
    ionloop resume lgps --retry-failed
    """  # noqa: D301 (typer's mark for lines to keep)
    from ionloop.config.launch import existing_store, import_labels

    url = existing_store(store)
    report = import_labels(url, run, paths, fmt, check_units)
    if as_json:
        render.print_json(report.model_dump(mode="json"))
    else:
        print_import(report, run, url)


def print_import(report: Imported, run: str, store: str) -> None:
    """Say what became of every calculation, and what comes next."""
    told = {
        "rejected": [f"{each.frame_id}: {each.reason}: {each.detail}" for each in report.rejected],
        "of no requested frame": report.unmatched,
        "labelled already": report.duplicates,
        "not read": report.unreadable,
    }
    for what, names in told.items():
        for name in names:
            render.out().print(f"[yellow]![/] {what}: {escape(name)}")
    render.out().print(f"{len(report.accepted)} accepted, {report.n_missing} still missing")
    again = render.command("resume", f"{run} --retry-failed", store)
    render.out().print(f"next: {again}", markup=False)
