"""The command ``ionloop``: registers commands, and turns errors into a sentence."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ionloop.cli import label_commands, launch_commands, look_commands, queue_commands, render

# ClickException, be it click's own or that of the copy that typer carries.
CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]

# Their messages are sentences for users: a wrong file, key, value, name, or something missing.
FORESEEN = (ValueError, OSError, ImportError, LookupError, RuntimeError)
UNFORESEEN = (KeyError, IndexError, NotImplementedError, RecursionError)


class Friendly(TyperGroup):
    """A group of commands that ends with a sentence where others end with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (CLICK_ERROR, typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            raise typer.Exit(tell(error)) from None


def tell(error: Exception) -> int:
    """Print an error as a sentence and return the exit code: 2 for bad input, 1 for a fault."""
    if isinstance(error, FORESEEN) and not isinstance(error, UNFORESEEN):
        render.print_error(str(error) or type(error).__name__)
        return launch_commands.BAD_INPUT
    render.print_error(
        f"unexpected {type(error).__name__}: {error}; this is a fault of ionloop: please report it "
        "with what `ionloop --debug …` prints"
    )
    return launch_commands.FAILED


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
