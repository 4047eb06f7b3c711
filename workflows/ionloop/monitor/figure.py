"""The learning of a run in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jobflow.core.store import JobStore
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from ionloop.monitor.frames import load_tables, verdict_tables
from ionloop.monitor.records import NotFoundError, outputs, summary
from ionloop.monitor.rows import TurnRow
from ionloop.monitor.turns import iterations, turns
from ionloop.schemas.packed import Array
from ionloop.schemas.potential import ForceErrors
from ionloop.schemas.selection import TrustWindow, Verdict
from ionloop.schemas.table import Table

SIZE = (9.0, 6.5)
"""Inches; 900 px wide at 100 dpi, and sharp at twice that."""


# Paul Tol's "high contrast" and Okabe and Ito's colours stay apart for every kind of vision.
ACCURATE, CANDIDATE, FAILED = "#0072B2", "#E69F00", "#882255"

INK, SOFT, WINDOW = "#222222", "#8A8A8A", "#F3E2B8"

_STYLE: dict[str, Any] = {"color": INK, "fontsize": 9}


@dataclass(frozen=True)
class Learning:
    """What the figure shows, read from the store.

    Parameters
    ----------
    turns
        The finished turns.
    deviations
        max_devi_f in eV/Å of the judged frames, one array per turn.
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
    def colours(self) -> list[str]:
        """One colour per turn, dark to light in the order of time."""
        from matplotlib import colormaps

        return [to_hex(c) for c in colormaps["viridis"](np.linspace(0.05, 0.85, len(self.turns)))]


def learning_figure(store: JobStore, run: str) -> Figure:
    """Draw how a run learned: verdicts, deviations, calibration, errors.

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
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=SIZE, dpi=200, layout=layout)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    draw_fractions(panels[0, 0], learning)
    draw_deviations(panels[0, 1], learning)
    draw_calibration(panels[1, 0], learning)
    draw_errors(panels[1, 1], learning)
    return figure


def read(store: JobStore, run: str) -> Learning:
    """Read what the figure shows.

    Raises
    ------
    NotFoundError
        If there is no such run, or it has no finished turn.
    """
    documents = iterations(store, run)
    if not documents:
        raise NotFoundError(f"run {run!r} has no finished turn yet: there is nothing to draw")
    numbers = [document.progress.index for document in documents]
    judged = dict(verdict_tables(store, run))
    windows = _windows(store, run)
    end = summary(store, run)
    return Learning(
        turns=turns(store, run),
        deviations=[_judged_deviations(judged[number]) for number in numbers],
        windows=[windows[number] for number in numbers],
        errors=_optional(store, [document.deviation_against_error for document in documents]),
        validation=end.validation.errors if end and end.validation else None,
    )


def draw_fractions(axes: Axes, learning: Learning) -> None:
    """Stack the fractions of accurate, candidate and failed frames by turn."""
    number = [turn.turn for turn in learning.turns]
    parts = np.array([turn.fractions for turn in learning.turns]).T
    below = np.zeros(len(number))
    for fraction, colour, word in zip(
        parts, (ACCURATE, CANDIDATE, FAILED), ("accurate", "candidate", "failed"), strict=True
    ):
        axes.bar(number, fraction, 0.78, below, color=colour, label=word, edgecolor="white", lw=0.6)
        below += fraction
    if len(number) <= 8:  # else the bars are narrower than the words
        for turn, fraction in zip(number, parts[0], strict=True):
            _number_in_bar(axes, turn, fraction)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _finish(axes, "Verdicts", "share of judged frames")
    _turn_axis(axes, number)
    _legend(axes, ncols=3, loc="lower right", bbox_to_anchor=(1.02, 0.985), **_TIGHT)


def draw_deviations(axes: Axes, learning: Learning) -> None:
    """Draw the distribution of max_devi_f by turn, on a logarithmic axis, with the window."""
    number = [turn.turn for turn in learning.turns]
    for turn, window in zip(number, learning.windows, strict=True):
        span = [turn - 0.5, turn + 0.5]
        axes.fill_between(span, window.low, window.high, color=WINDOW, lw=0, zorder=0)
    for turn, values, colour in zip(number, learning.deviations, learning.colours, strict=True):
        if len(values):
            _violin(axes, turn, values, colour)
    axes.set_yscale("log")
    _plain_log(axes.yaxis)
    last = learning.windows[-1]
    axes.annotate(
        "trust window",
        (number[-1] + 0.47, last.high),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="#8C6D1F",
    )
    _finish(axes, "Model deviation", "max_devi_f  (eV/Å)")
    _turn_axis(axes, number)


def draw_calibration(axes: Axes, learning: Learning) -> None:
    """Draw deviation against true error of the new labels, both logarithmic, by turn."""
    for turn, table, colour in zip(learning.turns, learning.errors, learning.colours, strict=True):
        if table is not None and len(table):
            axes.scatter(
                table["max_devi_f"],
                table["max_force_error"],
                s=13,
                color=colour,
                alpha=0.75,
                lw=0,
                label=f"turn {turn.turn}",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _diagonal(axes)
    for axis in (axes.xaxis, axes.yaxis):
        _plain_log(axis)
    axes.set_xlabel("max_devi_f  (eV/Å)", **_STYLE)
    _finish(axes, "Deviation against true error", "largest force error  (eV/Å)")
    if axes.get_legend_handles_labels()[0]:
        _legend(axes, ncols=5, **_BELOW, **_TIGHT)


def draw_errors(axes: Axes, learning: Learning) -> None:
    """Draw the force errors by turn, with the forces' own RMS and the validation at the end."""
    number = [turn.turn for turn in learning.turns]
    series: list[tuple[str, list[float | None], dict[str, Any]]] = [
        ("forces' own RMS", [t.new_label_rms for t in learning.turns], _RMS),
        ("new labels, before training", [t.new_label_rmse for t in learning.turns], _NEW),
        ("held back", [t.validation_rmse for t in learning.turns], _HELD_BACK),
        ("training frames", [t.train_rmse for t in learning.turns], _TRAIN),
    ]
    for word, values, style in series:
        drawn = [np.nan if value is None else value for value in values]
        if not np.isnan(drawn).all():
            axes.plot(number, drawn, label=word, **style)
    if learning.validation is not None:
        _draw_validation(axes, number[-1] + 1, learning.validation)
    axes.set_yscale("log")
    _plain_log(axes.yaxis)
    _finish(axes, "Force error", "force RMSE  (meV/Å)")
    _turn_axis(axes, number, end="end" if learning.validation else None)
    _legend(axes, ncols=2, **_BELOW)


_BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.19)}

_TIGHT: dict[str, Any] = {"handlelength": 0.9, "handletextpad": 0.4, "columnspacing": 1.0}

_RMS: dict[str, Any] = {"color": SOFT, "lw": 1.2, "ls": (0, (4, 3))}

_NEW: dict[str, Any] = {"color": CANDIDATE, "lw": 1.6, "marker": "s", "ms": 4.5}

_HELD_BACK: dict[str, Any] = {"color": "#009E73", "lw": 1.6, "marker": "^", "ms": 5}

_TRAIN: dict[str, Any] = {"color": ACCURATE, "lw": 1.6, "marker": "o", "ms": 4.5}


def _diagonal(axes: Axes) -> None:
    limits = axes.axis()
    axes.axline((0.1, 0.1), (1, 1), color=SOFT, lw=0.9, ls=(0, (4, 3)), zorder=0)
    axes.axis(limits)


def _draw_validation(axes: Axes, place: float, errors: ForceErrors) -> None:
    axes.plot(
        place,
        errors.force_mev_per_angstrom,
        ls="none",
        marker="D",
        ms=7,
        color=FAILED,
        label="validation of the potential",
    )
    rms = errors.force_rms_mev_per_angstrom
    axes.plot([place - 0.25, place + 0.25], [rms, rms], **_RMS)
    axes.annotate(
        f"{errors.force_mev_per_angstrom:.0f}",
        (place, errors.force_mev_per_angstrom),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=FAILED,
        fontweight="bold",
    )


def _violin(axes: Axes, place: float, values: Array, colour: str) -> None:
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
    judged: Array = deviations[counts]
    return judged


def _windows(store: JobStore, run: str) -> dict[int, TrustWindow]:
    found = outputs(store, run, "SelectionDoc", ["output.trust", "output.iteration"])
    return {each["iteration"]: TrustWindow(**each["trust"]) for each in found}


def _optional(store: JobStore, stored: Sequence[Any]) -> list[Table | None]:
    loaded = iter(load_tables(store, [table for table in stored if table is not None]))
    return [None if table is None else next(loaded) for table in stored]


def _number_in_bar(axes: Axes, turn: int, fraction: float) -> None:
    text = f"{fraction:.0%}"
    inside = fraction > 0.12
    axes.text(
        turn,
        fraction - 0.02 if inside else fraction + 0.015,
        text,
        ha="center",
        va="top" if inside else "bottom",
        color="white" if inside else INK,
        fontsize=8.5,
        fontweight="bold",
    )


def _finish(axes: Axes, title: str, ylabel: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    axes.set_ylabel(ylabel, **_STYLE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=INK, labelsize=8.5, color=SOFT)
    axes.tick_params(which="minor", color=SOFT, length=2)


def _turn_axis(axes: Axes, number: Sequence[int], end: str | None = None) -> None:
    last = number[-1] + (1 if end else 0)
    axes.set_xlim(number[0] - 0.55, last + 0.55)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.set_xlabel("turn", **_STYLE)
    if end:
        axes.set_xticks([*number, last], [*map(str, number), end])


def _plain_log(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, **options: Any) -> None:
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, **options)
