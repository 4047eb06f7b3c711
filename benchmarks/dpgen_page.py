"""The recipes of `dpgen.py` and their results: a file of one line per run, its table and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from results import add_line, markdown, mean_and_spread, read_lines, two_panels

RECIPES = {"dpgen": "DP-GEN's recipe", "distilled": "fine-tuned, then distilled"}
TRUST = {"dpgen": {"low": 0.12, "high": 0.8}, "distilled": {"low": 0.02, "high": 0.4}}
"""Windows in eV/Å. At an equal error the spread of fine-tuned models is several times smaller than
that of models from scratch; so is their window."""
TEMPERATURES = [300.0, 600.0, 900.0]
TEST_TEMPERATURES = [400.0, 700.0, 1000.0]
"""Temperatures in K that are explored, and those of the test frames."""
ORACLES = {"chgnet": "CHGNet", "gpaw": "GPAW"}
SYSTEMS = {"chgnet": "LGPS (50 atoms)", "gpaw": "Li₃InCl₆ (20 atoms)"}
"""What an oracle labels, and how it is called on the page."""
COLUMNS = ["labels", "forces, meV/Å", "energies, meV/atom", "core hours"]
STYLE = {"dpgen": ("tab:gray", "o"), "distilled": ("tab:orange", "P")}
"""Colour and marker of every recipe."""

INTRODUCTION = """\
# DP-GEN's recipe beside fine-tuning and distillation

Written by `python benchmarks/dpgen.py --page` from [`dpgen.jsonl`](dpgen.jsonl), which has one line
per run of the loop.

Both recipes have the same crystal, oracle, explorer ({explored} K, {md_steps} steps), perturbed
frames to begin with and picks per turn. Both are judged by the same test frames, which molecular
dynamics with CHGNet visited at {tested} K and the oracle labelled.

- DP-GEN's recipe: four DeePMD networks from scratch in every turn, {steps:,} steps each, and random
  picks in a trust window of {dpgen[low]} to {dpgen[high]} eV/Å; at the end one more network.
- Fine-tuned, then distilled: two 7net-0 fine-tuned in every turn, and random picks in a window of
  {distilled[low]} to {distilled[high]} eV/Å; at the end a student with DP-GEN's network.

A line "turn" is what the ensemble of that turn knows, before the labels that the turn buys;
"potential" is what is delivered. Core hours are those at the end of the turn, its exploration
and its new labels included; every label counts with the median time of one. Errors are root mean
squares, mean ± standard deviation over seeds; one constant per atom is taken off the energies.
"""

SECTION = """\
## {system}, labels from {oracle}

{initial} perturbed frames to begin with, {turns} turns of at most {per_turn} labels, {n_test} test
frames. DP-GEN's potential is trained for {production_steps:,} steps, the student for
{student_steps:,} and again after every round, on at most {taught} frames of its teacher.

![Errors]({figure})
"""


@dataclass(frozen=True)
class Order:
    """One run of the loop.

    Parameters
    ----------
    recipe, oracle, seed
        As in the options of `dpgen.py`.
    quick
        Whether everything is small.
    """

    recipe: str
    oracle: str
    seed: int
    quick: bool


@dataclass(frozen=True)
class Record:
    """A run and the errors of what it learned.

    Parameters
    ----------
    order
        The run.
    lines
        Labels, core hours and errors of every turn and of the potential.
    """

    order: Order
    lines: list[dict[str, Any]]

    @classmethod
    def of(cls, read: dict[str, Any]) -> Self:
        """Return what a line of the file says."""
        return cls(Order(**read["order"]), read["lines"])


def read_records(path: Path) -> list[Record]:
    """Return what a file of results holds."""
    return [Record.of(line) for line in read_lines(path)]


def add_record(path: Path, record: Record) -> None:
    """Add a run to a file of results."""
    add_line(path, asdict(record))


def of_recipe(records: Sequence[Record], recipe: str) -> list[list[dict[str, Any]]]:
    """Return the lines of every turn, and at last of the potential, with one entry per seed."""
    lines = [line for record in records if record.order.recipe == recipe for line in record.lines]
    names = sorted({line["what"] for line in lines}, key=lambda name: (name == "potential", name))
    return [[line for line in lines if line["what"] == name] for name in names]


def table(records: Sequence[Record]) -> str:
    """Return the table of runs with one oracle, in Markdown.

    Parameters
    ----------
    records
        The runs.
    """
    rows = [
        [title, same[0]["what"], str(len(same)), *numbers(same)]
        for recipe, title in RECIPES.items()
        for same in of_recipe(records, recipe)
    ]
    return markdown([["recipe", "what", "seeds", *COLUMNS], *rows])


def numbers(same: Sequence[dict[str, Any]]) -> list[str]:
    """Return the numbers of one line of the table, of all seeds together."""
    labels, hours = (np.mean([line[key] for line in same]) for key in ("labels", "core_hours"))
    forces, energies = (
        mean_and_spread([line["error"][key] for line in same], digits)
        for key, digits in (("force", 0), ("energy_shifted", 2))
    )
    return [f"{labels:.0f}", forces, energies, f"{hours:.2f}"]


def write_page(records: Sequence[Record], sizes: Mapping[str, Any], folder: Path) -> Path:
    """Write dpgen.md and its figures, and return the page.

    Parameters
    ----------
    records
        Results of the full benchmark.
    sizes
        Sizes of the runs, by the oracle.
    folder
        Where the page goes.
    """
    full = [record for record in records if not record.order.quick]
    if not full:
        raise SystemExit("there is no result of the full benchmark; run dpgen.py --full first")
    parts = [
        INTRODUCTION.format(
            **sizes["chgnet"],
            **TRUST,
            explored=", ".join(f"{each:,.0f}" for each in TEMPERATURES),
            tested=", ".join(f"{each:,.0f}" for each in TEST_TEMPERATURES),
        )
    ]
    for oracle, size in sizes.items():
        if of_oracle := [record for record in full if record.order.oracle == oracle]:
            name = f"dpgen-{oracle}.png"
            draw(of_oracle, folder / name)
            parts += [_section(of_oracle, size, name), table(of_oracle)]
    page = folder / "dpgen.md"
    page.write_text("\n\n".join(part.strip("\n") for part in parts) + "\n")
    return page


def _section(records: Sequence[Record], size: Mapping[str, Any], figure: str) -> str:
    """Return what is said above the table of an oracle."""
    oracle, teacher = records[0].order.oracle, size["teacher"]
    known = {
        "system": SYSTEMS[oracle],
        "oracle": ORACLES[oracle],
        "n_test": records[0].lines[0]["error"]["n_frames"],
        "production_steps": size["production"]["steps"],
        "student_steps": size["student"]["steps"],
        "taught": teacher["n_own"] + teacher["max_rounds"] * teacher["n_frames"],
        "figure": figure,
    }
    return SECTION.format(**size | known)


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw force errors against labels and against core hours.

    Parameters
    ----------
    records
        Runs with one oracle; means over seeds are drawn.
    path
        File of the figure.
    """
    with two_panels(path, 4, sharey=True) as axes:
        for axis, key in zip(axes, ("labels", "core_hours"), strict=True):
            for recipe in RECIPES:
                _line(axis, records, recipe, key)
            axis.set(xlabel=key.replace("_", " "))
            axis.grid(visible=True, alpha=0.3)
        axes[0].set(ylabel="force error, meV/Å")
        axes[0].set_ylim(0)
        axes[0].legend(frameon=False, fontsize=9)


def _line(axis: Any, records: Sequence[Record], recipe: str, key: str) -> None:
    """Draw the ensembles of the turns as a line, and the potential as a large mark."""
    found, (colour, marker) = of_recipe(records, recipe), STYLE[recipe]
    places = [np.mean([line[key] for line in same]) for same in found]
    errors = [np.mean([line["error"]["force"] for line in same]) for same in found]
    style, title = {"color": colour, "marker": marker}, RECIPES[recipe]
    axis.plot(places[:-1], errors[:-1], "--", label=f"{title}: turns", **style)
    axis.plot(places[-1:], errors[-1:], "", markersize=11, label=f"{title}: potential", **style)
