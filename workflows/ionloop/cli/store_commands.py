"""The commands that say what fills a store, and remove what nothing needs any more."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from ionloop.cli import render
from ionloop.cli.options import Common, flat

if TYPE_CHECKING:
    from ionloop.stores.contents import Contents

app = typer.Typer(
    no_args_is_help=True, help="Say what fills a store, or remove what nothing needs any more."
)


def info(given: Common) -> None:
    """Show what fills a store, by kind and by run.

    \b
    ionloop store info
    ionloop store info --store mongodb://server/ionloop --json
    """  # noqa: D301 (typer's mark for lines to keep)
    from ionloop.stores.connect import open_store
    from ionloop.stores.contents import contents

    with closing(open_store(given.store, read_only=True)) as store:
        found = contents(store)
    render.answer(given.as_json, found, *_lines(found))


def prune(
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without it, it is only listed.")
    ] = False,
    *,
    given: Common,
) -> None:
    """List what nothing needs any more, and remove it with --yes.

    Those are checkpoints of turns whose successors are trained, and blobs that no document refers
    to. Labels, models, explored frames and the checkpoints of a final potential stay.

    \b
    ionloop store prune
    ionloop store prune --yes
    """  # noqa: D301
    from ionloop.runs.records import existing_store
    from ionloop.stores.connect import open_store
    from ionloop.stores.pruning import find_removable, remove

    with closing(open_store(existing_store(given.store), read_only=not yes)) as store:
        found = find_removable(store)
        if yes:
            remove(store, found)
    parts = {
        name: {"n": len(blobs), "size": sum(blobs.values())}
        for name, blobs in (("checkpoints", found.checkpoints), ("unused", found.unused))
    }
    values = {"removed": yes, **parts, "size": found.size}
    done = "were removed" if yes else "would be removed"
    lines = [
        _line("checkpoints of replaced turns", **parts["checkpoints"]),
        _line("blobs that nothing refers to", **parts["unused"]),
        f"{_megabytes(found.size)} {done}",
    ]
    if found.size and not yes:
        again = render.with_store("ionloop store prune --yes", given.store)
        lines.append(f"nothing was removed yet; remove it with: {again}")
    render.answer(given.as_json, values, *lines)


def _lines(found: Contents) -> list[str]:
    kinds: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    n: Counter[str] = Counter()
    for share in found.shares:
        name, kind = share.collection, share.kind
        what = name if kind == name else f"{name}: {kind}"
        kinds[what] += share.size
        n[what] += share.n
        runs[share.run] += share.size
    lines = [_line(what, n[what], size) for what, size in kinds.most_common()]
    lines += [f"{_megabytes(size)} of {run or 'no run'}" for run, size in runs.most_common()]
    if found.file_size is not None and found.free is not None:
        free = _megabytes(found.free)
        lines.append(f"{_megabytes(found.file_size)} is the file, {free} of it free to write to")
    return lines


def _line(what: str, n: int, size: int) -> str:
    return f"{what:32}{n:7}  {_megabytes(size):>12}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


for _command in (info, prune):
    app.command()(flat(_command))
