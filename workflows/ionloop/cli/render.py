"""What commands print: results, JSON, the report of a check, errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.text import Text

from ionloop.cli.options import DEFAULT_STORE

if TYPE_CHECKING:
    from ionloop.preflight.check import Report
    from ionloop.preflight.findings import Finding

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}

WIDTH_OF_FILES = 180
"""Columns of a table that goes to a file or a pipe."""


def out() -> Console:
    """Return the console of results."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    return console


def err() -> Console:
    """Return the console of progress and errors: standard output is for results alone."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def answer(as_json: bool, values: Any, *parts: RenderableType) -> None:
    """Print the result of a command.

    Parameters
    ----------
    as_json
        Whether to print the values, as JSON, instead of the parts.
    values
        The result: plain values, or models.
    parts
        The result as sentences and tables.
    """
    if as_json:
        print_json(values)
    else:
        show(*parts)


def show(*parts: RenderableType) -> None:
    """Print sentences, which are never broken into lines, and tables, which fit the terminal."""
    for part in parts:
        sentence = isinstance(part, str | Text)
        out().print(part, markup=not sentence, soft_wrap=sentence)


def print_json(value: Any) -> None:
    """Print values or models as indented JSON; a number that is not finite becomes null."""
    import orjson
    from pydantic_core import to_jsonable_python

    plain = to_jsonable_python(value, fallback=str)
    typer.echo(orjson.dumps(plain, option=orjson.OPT_INDENT_2).decode())


def print_errors(sentences: Sequence[str], as_json: bool = False) -> None:
    """Print in red to standard error why a command was refused or failed; also as JSON if asked.

    Parameters
    ----------
    sentences
        The reasons.
    as_json
        Whether to print them to standard output, too, as JSON.
    """
    if as_json:
        print_json({"ok": False, "errors": sentences})
    for sentence in sentences:
        err().print(Text(sentence, style="red"))


@contextmanager
def working(doing: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done, and at which part of it; it disappears at the end."""
    with err().status(f"{escape(doing)} …") as status:
        yield lambda part: status.update(f"{escape(doing)}: {escape(part)} …")


def marked(level: str, sentence: str) -> Text:
    """Return a sentence behind the mark of its level: ok, warning or error."""
    return Text.assemble(MARKS[level], " ", sentence)


def described(finding: Finding) -> str:
    """Return a finding as a sentence: the key of the run file, what was found, what to do."""
    cure = f"; {finding.cure}" if finding.cure else ""
    return f"{finding.key}: {finding.sentence}{cure}"


def report_parts(report: Report) -> list[Text]:
    """Return what the check of a run file has found, what will happen, and what it costs."""
    return [
        *(marked(each.level, described(each)) for each in report.findings),
        Text("\nWhat will happen", style="bold"),
        *(Text(f"  {step}") for step in report.plan),
        Text("\nWhat it costs", style="bold"),
        Text(f"  {report.estimate.sentence}\n"),
    ]


def next_steps(run: str, store: str) -> list[str]:
    """Name the commands that come after a run."""
    steps = {
        command("export", f"{run} models", store): "the potential, as files",
        command("export", f"{run} dataset", store): "the labelled frames",
        command("status", run, store): "turn by turn",
    }
    width = max(map(len, steps))
    return ["next:", *(f"  {step:{width}}  {meaning}" for step, meaning in steps.items())]


def command(name: str, arguments: str, store: str) -> str:
    """Return a command of ionloop as the user can type it.

    Parameters
    ----------
    name
        Of the command.
    arguments
        What follows it.
    store
        The store, which is named where it is not the default one.
    """
    return with_store(f"ionloop {name} {arguments}", store)


def with_store(line: str, store: str) -> str:
    """Return a command line with its store where that is not the default one.

    Parameters
    ----------
    line
        The command line.
    store
        File or URL of the store.
    """
    place = store if "://" in store else os.path.relpath(store)
    return line if place == DEFAULT_STORE else f"{line} --store {place}"
