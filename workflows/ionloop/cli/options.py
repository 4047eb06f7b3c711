"""Arguments and options of the commands, each defined once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

DEFAULT_STORE = "ionloop.db"

RunArgument = Annotated[
    str, typer.Argument(help="Id of the run (see ionloop status).", metavar="RUN")
]
RunFileArgument = Annotated[Path, typer.Argument(help="The run file.", metavar="RUN.yaml")]
IterationOption = Annotated[int | None, typer.Option(min=0, help="Turn, counted from 0.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class Common:
    """Options of the commands that look into a store."""

    store: Annotated[
        str,
        typer.Option(
            envvar="IONLOOP_STORE",
            help="File of the embedded store, or mongodb://host:port/database.",
        ),
    ] = DEFAULT_STORE
    as_json: JsonOption = False


@dataclass(frozen=True)
class RunFileOptions:
    """Options of the commands that take a run file."""

    runner: Annotated[
        Literal["local", "fireworks", "remote"] | None,
        typer.Option(help="Another runner than the run file's."),
    ] = None
    store: Annotated[str | None, typer.Option(help="Another store than the run file's.")] = None
    as_json: JsonOption = False


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with its groups of options taken apart, for typer.

    A parameter whose type is a dataclass stands for one option per field.
    """
    hints = get_type_hints(command)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for each in _parameters(command):
        parameters += _parameters(groups[each.name]) if each.name in groups else [each]

    @wraps(command)
    def taken_apart(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    taken_apart.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return taken_apart


def _parameters(kind: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    return inspect.signature(kind, eval_str=True).parameters.values()
