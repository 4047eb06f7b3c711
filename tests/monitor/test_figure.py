from __future__ import annotations

import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf
from synthetic_run import TRUST, Writer, whole_run

from ionloop.monitor import figure
from ionloop.monitor.figure import learning_figure
from ionloop.monitor.records import NotFoundError


def test_the_figure_shows_the_numbers_of_the_run(store, tmp_path):
    writer = whole_run(store, n_turns=3)
    drawn = learning_figure(store, "lgps")
    verdicts, _, calibration, errors = drawn.axes
    accurate, candidate, failed = (
        [bar.get_height() for bar in container] for container in verdicts.containers
    )
    assert accurate == pytest.approx([turn.accurate_fraction for turn in writer.turns])
    assert np.add(np.add(accurate, candidate), failed) == pytest.approx(np.ones(3))
    assert [len(points.get_offsets()) for points in calibration.collections] == [  # type: ignore[arg-type]
        turn.n_accepted for turn in writer.turns
    ]
    lines = {line.get_label(): line.get_ydata() for line in errors.lines}
    assert lines["validation of the potential"] == [110]
    assert lines["training frames"] == pytest.approx([505, 280, 156.25])
    drawn.savefig(tmp_path / "learning.png", dpi=50)
    assert (tmp_path / "learning.png").stat().st_size > 5000


def test_read_leaves_out_skipped_frames(store):
    writer = whole_run(store, n_turns=2)
    learning = figure.read(store, "lgps")
    assert [len(values) for values in learning.deviations] == [
        turn.counts.judged for turn in writer.turns
    ]
    assert learning.windows == [TRUST, TRUST]


def test_an_unfinished_run_is_drawn_up_to_its_last_turn(store):
    writer = Writer(store, "lgps")
    writer.begin()
    writer.turn(0, 0.4)
    writer.explore(1, 0.3)  # selected, but not concluded
    learning = figure.read(store, "lgps")
    assert len(learning.deviations) == 1
    assert learning.validation is None
    learning_figure(store, "lgps").draw_without_rendering()


def test_a_run_without_a_turn_has_no_figure(store):
    Writer(store, "lgps").begin()
    with pytest.raises(NotFoundError, match="no finished turn"):
        learning_figure(store, "lgps")


def test_no_pyplot_state(store):
    whole_run(store, n_turns=1)
    learning_figure(store, "lgps")
    assert not Gcf.figs
