"""The command ``ionloop``: registers commands, and turns errors into a sentence."""

from __future__ import annotations

import os
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ionloop.cli import label_commands, launch_commands, look_commands, queue_commands, render
from ionloop.schemas.errors import IonloopError

# ClickException, be it click's own or that of the copy that typer carries.
CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

FAULT = 70
"""Exit code after a fault of ionloop's own: sysexits' EX_SOFTWARE, which no other ending has."""


class Friendly(TyperGroup):
    """A group of commands that ends with a sentence where others end with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        wants_json = "--json" in [*ctx._protected_args, *ctx.args]
        try:
            with warnings.catch_warnings():
                if not ctx.params.get("debug"):  # of libraries; ionloop's own go by print
                    warnings.simplefilter("ignore")
                return super().invoke(ctx)
        except (CLICK_ERROR, typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            code, sentence = told(error)
            if wants_json:
                render.print_refusal(sentence.splitlines())
            render.print_error(sentence)
            raise typer.Exit(code) from None


def told(error: Exception) -> tuple[int, str]:
    """Return the exit code and the sentence of an error.

    Foreseen is what ionloop says itself, and what the outside world answers: a file, a server.
    """
    from pymongo.errors import PyMongoError

    if isinstance(error, IonloopError | OSError):
        return launch_commands.BAD_INPUT, str(error) or type(error).__name__
    if isinstance(error, PyMongoError):
        reason = str(error).partition(", Timeout:")[0]
        return launch_commands.BAD_INPUT, f"the database does not answer as it should: {reason}"
    return FAULT, (
        f"unexpected {type(error).__name__}: {error}; this is a fault of ionloop, not of what it "
        f"was given: please report it with the traceback, which is in {written(error)}"
    )


def written(error: Exception) -> Path:
    """Write the traceback of an error to a file and return its path."""
    descriptor, name = tempfile.mkstemp(prefix="ionloop-traceback-", suffix=".txt")
    with os.fdopen(descriptor, "w") as file:
        file.writelines(traceback.format_exception(error))
    return Path(name)


app = typer.Typer(
    cls=Friendly,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Machine-learned interatomic potentials by concurrent learning.",
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Machine-learned interatomic potentials by concurrent learning.

    Begin with: ionloop init; ionloop check run.yaml; ionloop run run.yaml
    """


launch_commands.register(app)
queue_commands.register(app)
label_commands.register(app)
look_commands.register(app)
