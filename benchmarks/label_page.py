"""The results page of `labels.py` and its figure, written from the file of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from label_distillation import LESSONS
from label_methods import METHODS
from label_results import Record, cells, delivered, ratios, table, unfinished
from results import two_panels

from ionloop.schemas.errors import InputError

STYLE = {
    "scratch": ("tab:gray", "o", "-"),
    "distilled": ("tab:red", "D", "-"),
    "distilled-l3i5": ("tab:orange", "P", "-"),
    "scratch-wide": ("black", "o", ":"),
    "distilled-wide": ("tab:brown", "P", ":"),
    "7net-0": ("tab:blue", "s", "--"),
    "7net-l3i5": ("tab:cyan", "^", "--"),
    "chgnet": ("tab:green", "v", "--"),
}
"""Colour, marker and line of every method: small networks are solid, wide ones dotted."""

INTRODUCTION = """\
# Errors against the number of DFT labels

Written by `python benchmarks/labels.py --full --page` from [`labels.jsonl`](labels.jsonl), which
has one line per training.

Published DFT frames of LGPS (Huang et al. 2021) are replayed: of the initial frames and those of
iterations 0 to 3 (50 atoms), as many as the column *labels* says are picked at random.
With one seed, the smaller picks are parts of the larger ones. The potentials are judged by {n_test}
frames of iterations 4 to 7 (400 atoms), which nothing was trained on; the root mean square of their
force components is {scale:.0f} meV/Å.

- Every training is repeated with more steps until they lower the force error by less than 3 %; the
  length that did best is the one given here. This is decided by {n_tuning} other frames of
  iterations 4 to 7, which no training sees. A user would have to hold back labels for it.
- DeePMD: `se_e2_a`, cut-off 5 Å, nets [10, 20, 40] and [64, 64, 64], single precision, learning
  rates that follow the steps. Wide: cut-off 6 Å, nets [20, 40, 80] and [100, 100, 100].
- Distilled: a tenth of the labels is held back, two teachers are fine-tuned on the rest. They label
  {n_own} frames of their own molecular dynamics from the relaxed crystal, at {temperatures} K
  and constant pressure, and {n_frames} of that of students, in each of at most {n_rounds} rounds.
  Of the frames that DFT had selected only the labels are learned, drawn five times as often.
- Errors are root mean squares, mean ± standard deviation over seeds. Energies are given as they
  are, and after one constant per atom, the mean difference over all test frames, is taken off.
- Core seconds are processor time of everything that made the potential with the length that did
  best; shorter and longer tries are not counted.

![Errors against the number of labels](labels.png)
"""


def write_page(records: Sequence[Record], folder: Path) -> Path:
    """Write labels.md and labels.png, and return the page.

    Parameters
    ----------
    records
        Results of the full benchmark.
    folder
        Where the page goes.

    Raises
    ------
    InputError
        If there is no result.
    """
    full = [record for record in records if not record.quick]
    if not full:
        raise InputError("there is no result of the full benchmark; run labels.py --full first")
    draw(full, folder / "labels.png")
    growing, lessons = unfinished(full), LESSONS[False]
    parts = [
        INTRODUCTION.format(
            n_test=full[0].test.n_frames,
            n_tuning=full[0].tuning.n_frames,
            scale=full[0].test.force_scale,
            temperatures=", ".join(f"{each:,.0f}" for each in lessons.stage.temperatures),
            n_own=lessons.n_own,
            n_frames=lessons.n_frames,
            n_rounds=lessons.max_rounds,
        ),
        table(full),
        "## Compared\n",
        "\n".join(f"- {sentence}" for sentence in ratios(full)),
        "## Trainings that might still gain from more steps\n",
        "\n".join(f"- {training}" for training in growing) or "None.",
    ]
    page = folder / "labels.md"
    page.write_text("\n\n".join(part.strip("\n") for part in parts) + "\n")
    return page


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw force and energy errors against the number of labels.

    Parameters
    ----------
    records
        Results; seeds are drawn as thin marks, their means as lines.
    path
        File of the figure.
    """
    with two_panels(path, 4.4) as axes:
        for axis, name, label in (
            (axes[0], "force", "force error, meV/Å"),
            (axes[1], "energy_shifted", "energy error, meV/atom, one constant taken off"),
        ):
            _panel(axis, records, name)
            axis.set(xscale="log", xlabel="DFT labels", ylabel=label)
            axis.set_ylim(0, 1.08 * axis.dataLim.ymax)
            ticks = sorted({record.n for record in records})
            axis.set_xticks(ticks, [f"{n:,}" for n in ticks], rotation=45, minor=False)
            axis.minorticks_off()
            axis.grid(visible=True, alpha=0.3)
        axes[0].legend(frameon=False, fontsize=9, loc="lower left")


def _panel(axis: Any, records: Sequence[Record], name: str) -> None:
    found = cells(records)
    for method, (colour, marker, line) in STYLE.items():
        numbers = [n for known, n in found if known == method]
        if not numbers:
            continue
        means = [found[method, n].mean(name) for n in numbers]
        title = METHODS[method].title
        axis.plot(numbers, means, line, color=colour, marker=marker, label=title, markersize=5)
        single = [record for record in delivered(records) if record.method == method]
        values = [getattr(record.test, name) for record in single]
        axis.plot([r.n for r in single], values, marker, color=colour, alpha=0.3, markersize=3)
