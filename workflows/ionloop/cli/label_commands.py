"""The commands that import labels from outside, and drop labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ionloop.cli import render
from ionloop.cli.options import Common, RunArgument, flat

if TYPE_CHECKING:
    from rich.text import Text

    from ionloop.jobs.label.external import Imported


class ImportUnlessNamed(TyperGroup):
    """A group that imports where no command of it is named: ``ionloop label RUN PATH...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command first where it is left out."""
        named = not args or args[0] in self.commands or args[0] == "--help"
        return list(super().parse_args(ctx, args if named else ["import", *args]))


app = typer.Typer(
    cls=ImportUnlessNamed, no_args_is_help=True, help="Import labels from outside, or drop labels."
)


@dataclass(frozen=True)
class Choice:
    """Options that say which labels are meant."""

    run: Annotated[str | None, typer.Option(help="Labels that this run asked for first.")] = None
    frames: Annotated[
        list[str] | None,
        typer.Option("--frame", help="Frame id, or its first characters; may be repeated."),
    ] = None
    level: Annotated[str | None, typer.Option(help="Hash of the level of theory.")] = None
    reason: Annotated[
        str | None, typer.Option(help="Reason of the rejection, such as unconverged.")
    ] = None
    accepted: Annotated[
        bool, typer.Option("--accepted", help="Accepted labels too, not only rejected ones.")
    ] = False


def label(
    run: RunArgument,
    paths: Annotated[list[Path], typer.Argument(help="Finished calculations.", metavar="PATH...")],
    fmt: Annotated[
        str | None, typer.Option("--format", help="dpdata's or ASE's name; else worked out.")
    ] = None,
    check_units: Annotated[
        bool, typer.Option(help="Take nothing from files whose numbers look like other units.")
    ] = True,
    *,
    given: Common,
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

    report = import_labels(existing_store(given.store), run, paths, fmt, check_units)
    again = render.command("resume", f"{run} --retry-failed", given.store)
    count = f"{len(report.accepted)} accepted, {report.n_missing} still missing"
    render.answer(given.as_json, report, *_remarks(report), count, f"next: {again}")


def forget(
    choice: Choice,
    yes: Annotated[
        bool, typer.Option("--yes", help="Drop them; without it they are listed.")
    ] = False,
    *,
    given: Common,
) -> None:
    """List labels that would be dropped, and drop them with --yes.

    A frame whose label was dropped is calculated again when it is asked for.

    \b
    ionloop label forget --run lgps --reason unconverged
    ionloop label forget --frame 3f9a61d2 --accepted --yes
    """  # noqa: D301
    from ionloop.runs.labels import forget_labels
    from ionloop.runs.records import existing_store

    found = forget_labels(existing_store(given.store), **vars(choice), really=yes)
    hours = sum(each["seconds"] * each["cores"] for each in found) / 3600
    done = "are dropped" if yes else "would be dropped"
    lines = [*map(_line, found), f"{len(found)} labels, which took {hours:.3g} core hours, {done}"]
    if found and not yes:
        lines.append("nothing was dropped yet; drop them with --yes")
    render.answer(given.as_json, {"dropped": yes, "labels": found}, *lines)


def _line(found: dict[str, Any]) -> str:
    judgement = found["status"] + (f" ({found['reason']})" if found["reason"] else "")
    return f"{found['label_id']}  {judgement}  run {found['run']}  {found['level_words']}"


def _remarks(report: Imported) -> list[Text]:
    """Return what was not imported, and why."""
    kinds = {
        "rejected": [f"{each.frame_id}: {each.reason}: {each.detail}" for each in report.rejected],
        "of no requested frame": report.unmatched,
        "labelled already": report.duplicates,
        "not read": report.unreadable,
    }
    return [
        render.marked("warning", f"{kind}: {name}")
        for kind, names in kinds.items()
        for name in names
    ]


app.command("import")(flat(label))
app.command()(flat(forget))
