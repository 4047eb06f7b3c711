"""The whole loop with VASP labels through the queue: each engine buys every label once."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from books import place_of
from fault_sites import both_engines, marks, opened_place, wait_for_end

from ionloop.runfile.reading import load
from ionloop.schemas.label import LabelStatus

pytestmark = marks

VASP = {"code": "vasp", "encut": 300, "kpoints": "gamma", "potcars": {"Au": "Au", "Cu": "Cu"}}


@both_engines
def test_loop_with_vasp_labels(kind: str, vasp: Any, tmp_path: Path, toy: Path) -> None:
    with opened_place(kind, tmp_path) as place:
        books = place_of(place.folder, place.url)
        write(books, vasp.command)
        place.submit(load(place.folder / "run.yaml").flow())
        place.start()
        rows = wait_for_end(place, 1200)

        assert {row.tries for row in rows} == {1}
        assert {row.worker for row in rows if row.role == "label" and row.queue_id} >= {"cpu"}
        assert {row.worker for row in rows if row.role == "explore" and row.queue_id} >= {"gpu"}
        (turn,) = books.turns()
        labels = books.labels()
        assert turn.n_training_frames == len(labels) == 6 + turn.n_accepted > 6
        assert {label.status for label in labels} == {LabelStatus.ACCEPTED}
        assert Counter(vasp.starts) == Counter(label.frame_id for label in labels)


def write(books: Any, command: str) -> None:
    """Write the run file of one turn on VASP labels."""
    books.write(initial={"n_perturbed": 6}, limits={"max_turns": 1}, select={"max_labels": 2})
    books.replace(without="validation", label=VASP | {"vasp_cmd": command})
