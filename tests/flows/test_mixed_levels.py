"""Two levels of theory are kept apart, unless the run file says otherwise; then all reports do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ionloop.codes.gpaw.settings import GpawSettings
from ionloop.flows.concurrent_learning.accounts import dataset_document, split_note
from ionloop.jobs.train.split import split
from ionloop.preflight.check import check
from ionloop.runfile.model import RunFile
from ionloop.schemas.frames import Frames
from ionloop.schemas.label import Labels, LevelOfTheory

TOY = Path(__file__).parents[1] / "toy" / "AuCu.vasp"


def labels(frames: Frames, code: str) -> Labels:
    return labels_at(LevelOfTheory(code=code, settings={"cut-off": 400}), frames)


def labels_at(level: LevelOfTheory, frames: Frames) -> Labels:
    f, n = len(frames), frames.n_atoms
    labelled = Frames(
        frames.symbols,
        frames.positions,
        frames.cells,
        np.zeros(f),
        np.zeros((f, n, 3)),
        level=level.hash,
    )
    return Labels(level=level, n_requested=f, n_accepted=f, frames=[labelled])


def test_two_levels_are_refused(gold_copper: Frames) -> None:
    dataset = [labels(gold_copper[:5], "one"), labels(gold_copper[5:], "two")]
    with pytest.raises(ValueError, match=r"one \(cut-off 400\) and two.*allow_mixed"):
        dataset_document(dataset, 0.1)
    training, validation = split(dataset, 0.1)
    assert len({part.level for part in [*training, *validation]}) == 2


def test_a_run_that_version_0_1_began_goes_on_with_its_labels(gold_copper: Frames) -> None:
    today = GpawSettings(setups={"Cu": "11"}).level
    settings = today.settings | {"special setups": {"Cu": "11"}}
    before = LevelOfTheory(code="gpaw", settings=settings)
    assert today.former == [before.hash] != [today.hash]
    dataset = [labels_at(before, gold_copper[:5]), labels_at(today, gold_copper[5:])]
    document = dataset_document(dataset, 0.1)
    assert document.levels == [today.hash]
    assert document.notes == []
    training, validation = split(dataset, 0.1)
    assert {part.level for part in [*training, *validation]} == {today.hash}
    assert sum(map(len, [*training, *validation])) == 12
    other = GpawSettings(setups={"Cu": "11"}, cutoff=400).level
    with pytest.raises(ValueError, match="allow_mixed"):
        dataset_document([*dataset, labels_at(other, gold_copper[:1])], 0.1)


def test_allowed_levels_are_one_data_set_that_says_so(gold_copper: Frames) -> None:
    dataset = [labels(gold_copper[:5], "one"), labels(gold_copper[5:], "two")]
    document = dataset_document(dataset, 0.1, allow_mixed=True)
    assert len(document.training) + len(document.validation) == 12
    assert document.levels == sorted(part.level.hash for part in dataset)
    (note,) = document.notes
    assert "one (cut-off 400) and two (cut-off 400)" in note
    training, validation = split(dataset, 0.1, allow_mixed=True)
    assert {part.level for part in [*training, *validation]} == {None}
    assert sum(map(len, [*training, *validation])) == 12


def test_a_split_far_from_what_was_asked_for_is_noted() -> None:
    assert split_note(0, 59, 0.05) == split_note(20, 400, 0.05) == split_note(20, 30, 0.05) == ""
    assert "no frame is held back" in split_note(0, 60, 0.05)
    assert "100 of 400 frames are held back" in split_note(100, 400, 0.05)


def test_one_level_needs_no_note(gold_copper: Frames) -> None:
    for allowed in (True, False):
        document = dataset_document([labels(gold_copper, "one")], 0.1, allowed)
        assert document.notes == []
        assert document.levels == [labels(gold_copper, "one").level.hash]


def run_file(**data: object) -> RunFile:
    initial = {"data": [{"path": str(TOY), **data}], "allow_mixed": "level" in data}
    label = {"model": "ase.calculators.emt:EMT"}
    return RunFile.model_validate({"structures": [TOY], "initial": initial, "label": label})


def test_the_check_tells_mixed_levels() -> None:
    def about_data(file: RunFile) -> list[tuple[str, str]]:
        return [(f.level, f.sentence) for f in check(file).findings if f.key == "initial.data[0]"]

    assert [level for level, _ in about_data(run_file())] == ["ok", "error"]
    (_, (level, sentence)) = about_data(run_file(level="PBEsol, 600 eV"))
    assert level == "warning"
    assert "PBEsol, 600 eV" in sentence


def test_every_training_knows_that_it_may_mix() -> None:
    maker = run_file(level="PBEsol").maker()
    assert maker.train.allow_mixed
    assert maker.production.allow_mixed
    assert not run_file(same_level=True).maker().train.allow_mixed
