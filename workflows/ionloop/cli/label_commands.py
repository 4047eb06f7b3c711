"""The commands that import labels from outside, and drop labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from ionloop.cli import render

if TYPE_CHECKING:
    from ionloop.jobs.label.external import Imported


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    commands = typer.Typer(cls=ImportUnlessNamed, no_args_is_help=True)
    commands.command("import")(label)
    commands.command()(forget)
    app.add_typer(commands, name="label", help="Import labels from outside, or drop labels.")


class ImportUnlessNamed(TyperGroup):
    """A group that imports where no command of it is named: ``ionloop label RUN PATH...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command first where it is left out."""
        named = not args or args[0] in self.commands or args[0] == "--help"
        return list(super().parse_args(ctx, args if named else ["import", *args]))


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
    from ionloop.runs.labels import import_labels
    from ionloop.runs.records import existing_store

    url = existing_store(store)
    report = import_labels(url, run, paths, fmt, check_units)
    if as_json:
        render.print_json(report.model_dump(mode="json"))
    else:
        print_import(report, run, url)


def forget(
    run: Annotated[str | None, typer.Option(help="Labels that this run asked for first.")] = None,
    frame: Annotated[
        list[str] | None, typer.Option(help="Frame id, or its first characters; may be repeated.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="Hash of the level of theory.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Reason of the rejection, such as unconverged.")
    ] = None,
    accepted: Annotated[
        bool, typer.Option("--accepted", help="Accepted labels too, not only rejected ones.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Drop them; without it they are listed.")
    ] = False,
    store: Annotated[
        str, typer.Option("--store", envvar="IONLOOP_STORE", help="File or mongodb:// URL.")
    ] = render.DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List labels that would be dropped, and drop them with --yes.

    A frame whose label was dropped is calculated again when it is asked for.

    \b
    ionloop label forget --run lgps --reason unconverged
    ionloop label forget --frame 3f9a61d2 --accepted --yes
    """  # noqa: D301 (typer's mark for lines to keep)
    from ionloop.runs.labels import forget_labels
    from ionloop.runs.records import existing_store

    criteria: dict[str, Any] = {"run": run, "frames": frame or [], "level": level, "reason": reason}
    found = forget_labels(existing_store(store), **criteria, accepted=accepted, really=yes)
    if as_json:
        render.print_json({"dropped": yes, "labels": found})
    else:
        print_forgotten(found, yes)


def print_forgotten(found: list[dict[str, Any]], dropped: bool) -> None:
    """Say which labels were dropped, or would be."""
    for each in found:
        verdict = each["status"] + (f" ({each['reason']})" if each["reason"] else "")
        words = f"{each['label_id']}  {verdict}  run {each['run']}  {each['level_words']}"
        render.out().print(words, markup=False)
    spent = sum(each["seconds"] * each["cores"] for each in found) / 3600
    what = f"{len(found)} labels, which took {spent:.3g} core hours,"
    render.out().print(f"{what} {'are dropped' if dropped else 'would be dropped'}", markup=False)
    if found and not dropped:
        render.out().print("nothing was dropped yet; drop them with --yes", markup=False)


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
