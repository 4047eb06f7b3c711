"""How a run has learned, in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from jobflow.core.store import JobStore
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from ionloop.monitor.frames import turn_tables
from ionloop.monitor.records import NotFoundError, outputs, summary
from ionloop.monitor.rows import TurnRow
from ionloop.monitor.turns import turns
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.schemas.table import Table

SIZE = (9.0, 6.5)
"""Size of the figure in inches: 900 pixels wide at 100 dpi, and sharp at twice that."""

# Colours of Okabe and Ito, and of Paul Tol: they differ for every kind of colour vision.
ACCURATE, CANDIDATE, FAILED, HELD_BACK = "#0072B2", "#E69F00", "#882255", "#009E73"

INK, SOFT, WINDOW, WINDOW_INK = "#222222", "#8A8A8A", "#F3E2B8", "#8C6D1F"

DASHED = (0, (4, 3))

STYLE: dict[Any, Any] = {
    **dict.fromkeys(("axes.titlecolor", "axes.labelcolor", "legend.labelcolor"), INK),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), SOFT),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8.5),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
}
"""How all panels look, as matplotlib's rc parameters."""

_BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19)}

_TIGHT: dict[str, Any] = {"handlelength": 0.9, "handletextpad": 0.4, "columnspacing": 1.0}


_RMS: dict[str, Any] = {"color": SOFT, "lw": 1.2, "ls": DASHED}

_SERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "forces' own RMS": ("new_label_rms", _RMS),
    "new labels, before training": ("new_label_rmse", {"color": CANDIDATE, "marker": "s"}),
    "held back": ("validation_rmse", {"color": HELD_BACK, "marker": "^"}),
    "training frames": ("train_rmse", {"color": ACCURATE, "marker": "o"}),
}
"""Lines of the panel of errors: field of a turn, and look."""


@dataclass(frozen=True)
class Learning:
    """What the figure shows, read from the store.

    Parameters
    ----------
    turns
        The finished turns.
    deviations
        max_devi_f in eV/Å of the judged frames, one array (frames,) per turn.
    windows
        The trust window of every turn.
    errors
        Per turn, max_devi_f and max_force_error of the new labels in eV/Å, or None.
    validation
        Errors of the production potential, if there was a validation.
    """

    turns: list[TurnRow]
    deviations: list[Array]
    windows: list[TrustWindow]
    errors: list[Table | None]
    validation: ForceErrors | None

    @property
    def numbers(self) -> list[int]:
        """Numbers of the turns."""
        return [turn.turn for turn in self.turns]

    @property
    def colours(self) -> list[str]:
        """One colour per turn, from dark to light in the order of time."""
        scale = matplotlib.colormaps["viridis"]
        return [to_hex(colour) for colour in scale(np.linspace(0.05, 0.85, len(self.turns)))]


def learning_figure(store: JobStore, run: str) -> Figure:
    """Draw how a run has learned: verdicts, deviations, calibration, errors.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.

    Returns
    -------
    Figure
        With an Agg canvas; `figure.savefig(path)` writes it.

    Raises
    ------
    NotFoundError
        If there is no such run, or it has no finished turn.
    """
    learning = read(store, run)
    with matplotlib.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        figure = Figure(figsize=SIZE, dpi=200, layout=layout)
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, 2).flat
        for draw, axes in zip(
            (draw_fractions, draw_deviations, draw_calibration, draw_errors), panels, strict=True
        ):
            draw(axes, learning)
    return figure


def read(store: JobStore, run: str) -> Learning:
    """Read what the figure shows.

    Parameters
    ----------
    store
        The job store.
    run
        Id of the run.

    Raises
    ------
    NotFoundError
        If there is no such run, or it has no finished turn.
    """
    finished = turns(store, run)
    if not finished:
        raise NotFoundError(f"run {run!r} has no finished turn yet: there is nothing to draw")
    numbers = [turn.turn for turn in finished]
    verdicts = dict(turn_tables(store, "verdicts", run))
    errors = dict(turn_tables(store, "deviation_against_error", run))
    selections = outputs(store, run, "SelectionDoc", ["output.trust", "output.iteration"])
    windows = {each["iteration"]: TrustWindow(**each["trust"]) for each in selections}
    end = summary(store, run)
    return Learning(
        turns=finished,
        deviations=[_judged_deviations(verdicts[number]) for number in numbers],
        windows=[windows[number] for number in numbers],
        errors=[errors.get(number) for number in numbers],
        validation=end.validation.errors if end and end.validation else None,
    )


def draw_fractions(axes: Axes, learning: Learning) -> None:
    """Draw the fractions of accurate, candidate and failed frames by turn, one on the other.

    Parameters
    ----------
    axes
        Where to draw.
    learning
        What to draw.
    """
    numbers = learning.numbers
    parts = np.array([turn.fractions for turn in learning.turns]).T  # (verdicts, turns)
    bottoms = np.cumsum(parts, axis=0) - parts
    kinds = {"accurate": ACCURATE, "candidate": CANDIDATE, "failed": FAILED}
    for (word, colour), part, bottom in zip(kinds.items(), parts, bottoms, strict=True):
        axes.bar(numbers, part, 0.78, bottom, color=colour, label=word, edgecolor="white", lw=0.6)
    if len(numbers) <= 8:  # in more bars there is no room for the numbers
        for turn, fraction in zip(numbers, parts[0], strict=True):
            inside = fraction > 0.12
            height = fraction - 0.02 if inside else fraction + 0.015
            label = axes.text(turn, height, f"{fraction:.0%}", size=8.5, weight="bold")
            label.set(ha="center", va="top" if inside else "bottom")
            label.set_color("white" if inside else INK)
    axes.set(title="Verdicts", ylabel="share of judged frames", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _turn_axis(axes, numbers)
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1.02, 0.985), **_TIGHT)


def draw_deviations(axes: Axes, learning: Learning) -> None:
    """Draw the distribution of max_devi_f by turn, with the trust window.

    Parameters
    ----------
    axes
        Where to draw.
    learning
        What to draw.
    """
    for turn, window, values, colour in zip(
        learning.numbers, learning.windows, learning.deviations, learning.colours, strict=True
    ):
        span = [turn - 0.5, turn + 0.5]
        axes.fill_between(span, window.low, window.high, color=WINDOW, lw=0, zorder=0)
        if len(values):
            _violin(axes, turn, values, colour)
    axes.set_yscale("log")
    _plain_numbers(axes.yaxis)
    corner = (learning.numbers[-1] + 0.47, learning.windows[-1].high)
    above: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "ha": "right"}
    axes.annotate("trust window", corner, size=8, color=WINDOW_INK, **above)
    axes.set(title="Model deviation", ylabel="max_devi_f  (eV/Å)")
    _turn_axis(axes, learning.numbers)


def draw_calibration(axes: Axes, learning: Learning) -> None:
    """Draw the deviations of the new labels against their true errors, by turn.

    Parameters
    ----------
    axes
        Where to draw.
    learning
        What to draw.
    """
    for turn, table, colour in zip(
        learning.numbers, learning.errors, learning.colours, strict=True
    ):
        if table is not None and len(table):
            points = table["max_devi_f"], table["max_force_error"]
            axes.scatter(*points, s=13, color=colour, alpha=0.75, lw=0, label=f"turn {turn}")
    axes.set(xscale="log", yscale="log", title="Deviation against true error")
    axes.set(xlabel="max_devi_f  (eV/Å)", ylabel="largest force error  (eV/Å)")
    limits = axes.axis()
    axes.axline((0.1, 0.1), (1, 1), color=SOFT, lw=0.9, ls=DASHED, zorder=0)
    axes.axis(limits)
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(ncols=5, **_BELOW, **_TIGHT)


def draw_errors(axes: Axes, learning: Learning) -> None:
    """Draw the force errors by turn beside the forces' own RMS, and the validation at the end.

    Parameters
    ----------
    axes
        Where to draw.
    learning
        What to draw.
    """
    for word, (field, style) in _SERIES.items():
        values = [getattr(turn, field) for turn in learning.turns]
        drawn = np.array(values, dtype=float)  # None becomes NaN, which is not drawn
        if not np.isnan(drawn).all():
            axes.plot(learning.numbers, drawn, label=word, **{"lw": 1.6, "ms": 5, **style})
    if learning.validation is not None:
        _draw_validation(axes, learning.numbers[-1] + 1, learning.validation)
    axes.set(yscale="log", title="Force error", ylabel="force RMSE  (meV/Å)")
    _plain_numbers(axes.yaxis)
    _turn_axis(axes, learning.numbers, with_end=learning.validation is not None)
    axes.legend(ncols=2, **_BELOW)


def _draw_validation(axes: Axes, place: float, errors: ForceErrors) -> None:
    error, rms = errors.force_mev_per_angstrom, errors.force_rms_mev_per_angstrom
    label = "validation of the potential"
    axes.plot(place, error, ls="none", marker="D", ms=7, color=FAILED, label=label)
    axes.plot([place - 0.25, place + 0.25], [rms, rms], **_RMS)
    above: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
    above |= {"size": 8.5, "color": FAILED, "weight": "bold"}
    axes.annotate(f"{error:.0f}", (place, error), **above)


def _violin(axes: Axes, place: float, values: Array, colour: str) -> None:
    """Draw a smoothed histogram of the logarithms, with the median and the middle 80 %."""
    logs = np.log10(values)
    edges = np.linspace(logs.min() - 0.15, logs.max() + 0.15, 60)
    counts, _ = np.histogram(logs, edges)
    kernel = np.exp(-0.5 * np.linspace(-2.5, 2.5, 9) ** 2)
    width = np.convolve(counts, kernel / kernel.sum(), mode="same")
    width = 0.4 * width / width.max()
    centres = 10 ** ((edges[1:] + edges[:-1]) / 2)
    axes.fill_betweenx(centres, place - width, place + width, color=colour, alpha=0.85, lw=0)
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9])
    axes.plot([place, place], [low, high], color="white", lw=1.4, solid_capstyle="round")
    axes.plot(place, median, "o", color="white", ms=4)


def _judged_deviations(table: Table) -> Array:
    deviations = table["max_devi_f"]
    counts = (table["verdict"] != Verdict.SKIPPED) & np.isfinite(deviations) & (deviations > 0)
    return table.where(counts)["max_devi_f"]


def _turn_axis(axes: Axes, numbers: Sequence[int], with_end: bool = False) -> None:
    last = numbers[-1] + with_end
    axes.set(xlabel="turn", xlim=(numbers[0] - 0.55, last + 0.55))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    if with_end:
        axes.set_xticks([*numbers, last], [*map(str, numbers), "end"])


def _plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis at 1, 2 and 5, without powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
