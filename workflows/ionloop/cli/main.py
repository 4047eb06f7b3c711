"""The command ``ionloop``: its commands, and how it ends when something goes wrong."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ionloop.cli import (
    label_commands,
    launch_commands,
    look_commands,
    queue_commands,
    render,
    store_commands,
)
from ionloop.cli.options import flat
from ionloop.schemas.errors import IonloopError

# ClickException, be it click's own or that of the copy that typer carries.
CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

FAULT = 70
"""Exit code after a fault in ionloop itself: EX_SOFTWARE of sysexits; nothing else ends with it."""


class Commands(TyperGroup):
    """The commands; an error ends them with a sentence, and with JSON where that was asked for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options that come before the command."""
        ctx.meta["json"] = "--json" in args
        with _errors_as_sentences(ctx):
            return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _errors_as_sentences(ctx), warnings.catch_warnings():
            if not ctx.params.get("debug"):  # those of libraries: ionloop prints its own
                warnings.simplefilter("ignore")
            return super().invoke(ctx)


@contextmanager
def _errors_as_sentences(ctx: Any) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except CLICK_ERROR as error:  # of usage, such as an unknown option: typer prints it
        if ctx.meta["json"]:
            render.print_json({"ok": False, "errors": [error.format_message()]})  # type: ignore[attr-defined]
        raise
    except Exception as error:
        if ctx.params.get("debug"):
            raise
        code, sentence = told(error)
        render.print_errors(sentence.splitlines(), ctx.meta["json"])
        raise typer.Exit(code) from None


def told(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error, and what to tell the user.

    What the operating system or a database server refuses is no fault, wherever it happens.
    """
    if isinstance(error, IonloopError | OSError):
        return launch_commands.BAD_INPUT, str(error) or type(error).__name__
    from pymongo.errors import PyMongoError

    if isinstance(error, PyMongoError):
        reason = str(error).partition(", Timeout:")[0]
        return launch_commands.BAD_INPUT, f"the database does not answer as it should: {reason}"
    return FAULT, (
        f"unexpected {type(error).__name__}: {error}; this is a fault in ionloop, not in its "
        f"input: please report it with the traceback, which is in {written(error)}"
    )


def written(error: Exception) -> Path:
    """Write the traceback of an error to a file and return its path."""
    import tempfile
    import traceback

    descriptor, name = tempfile.mkstemp(prefix="ionloop-traceback-", suffix=".txt")
    with os.fdopen(descriptor, "w") as file:
        file.writelines(traceback.format_exception(error))
    return Path(name)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Your shell completes commands and options after: ionloop --install-completion",
)


def _print_versions(asked: bool) -> None:
    if asked:
        from ionloop.cli.versions import versions

        render.show(*(f"{name:14} {version}" for name, version in versions().items()))
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of ionloop and of the programs that it finds.",
        ),
    ] = False,
) -> None:
    """Machine-learned interatomic potentials by concurrent learning.

    Begin with: ionloop init; ionloop check run.yaml; ionloop run run.yaml
    """


for _command in (*launch_commands.COMMANDS, *queue_commands.COMMANDS, *look_commands.COMMANDS):
    app.command()(flat(_command))
app.command("tend", hidden=True)(flat(queue_commands.recover))  # its name in version 0.1
app.add_typer(label_commands.app, name="label")
app.add_typer(store_commands.app, name="store")
