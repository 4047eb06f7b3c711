from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from jobflow import JobStore, run_locally

from ionloop.codes.forcefield.settings import ForceFieldSettings
from ionloop.formats.ase import to_ase
from ionloop.jobs.label.forcefield import ForceFieldLabelMaker
from ionloop.jobs.label.ledger import Ledger
from ionloop.jobs.label.twins import distinct
from ionloop.schemas.frames import Frames, concatenate
from ionloop.schemas.label import Labels

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")

MAKER = ForceFieldLabelMaker(settings=ForceFieldSettings(model="toy_labeller:ToyLabeller"))


def buy(frames: list[Frames], store: JobStore, maker: ForceFieldLabelMaker = MAKER) -> Labels:
    flow = maker.make(frames)
    run_locally(flow, store=store, log=False, allow_external_references=True)
    labels: Labels = flow.output.resolve(store)
    return labels


def image(frames: Frames, seed: int = 0) -> Frames:
    """Return the frames with their atoms permuted and moved by lattice vectors."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(frames.n_atoms)
    shifts = rng.integers(-2, 3, (len(frames), frames.n_atoms, 3)) @ frames.cells
    return Frames(
        tuple(frames.symbols[i] for i in order),
        (frames.positions + shifts)[:, order],
        frames.cells,
    ).snapped()


def bought(log: Path) -> int:
    return len(log.read_text().splitlines())


def assert_forces_are_right(labels: Labels) -> None:
    (part,) = labels.frames
    assert part.forces is not None
    for atoms, forces in zip(to_ase(part.unlabelled()), part.forces, strict=True):
        atoms.calc = EMT()
        assert np.allclose(atoms.get_forces(), forces, atol=1e-6)


def test_an_image_of_a_bought_frame_is_not_bought_again(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    buy([gold_copper[:4]], store)
    others = image(gold_copper[:6])
    assert not set(others.ids) & set(gold_copper.ids)
    labels = buy([others], store)
    assert bought(toy) == 6
    assert (labels.n_requested, labels.n_accepted, labels.n_reused) == (6, 6, 4)
    assert set(labels.frames[0].ids) == set(others.ids)
    assert_forces_are_right(labels)
    ledger = Ledger(store.additional_stores["labels"])
    copied = ledger.find(others.ids, MAKER.level)[others.ids[0]]
    original = ledger.find(gold_copper.ids, MAKER.level)[gold_copper.ids[0]]
    assert copied.copied_from == original.label_id
    assert (copied.energy, copied.seconds) == (original.energy, 0.0)
    assert copied.frame.origins == original.frame.origins  # on one side of the split


def test_two_images_in_one_request_are_one_configuration(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    labels = buy([gold_copper[:3], image(gold_copper[:3])], store)
    assert bought(toy) == 3
    assert labels.n_requested == labels.n_accepted == 3
    assert labels.frames[0].ids == gold_copper[:3].ids


def test_an_image_at_another_level_is_bought(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    buy([gold_copper[:2]], store)
    settings = ForceFieldSettings(model="toy_labeller:ToyLabeller", options={"seconds": 0.001})
    buy([image(gold_copper[:2])], store, replace(MAKER, settings=settings))
    assert bought(toy) == 4


def test_a_rejected_image_is_not_calculated_again(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    options = {"nan_every": 1}
    settings = ForceFieldSettings(model="toy_labeller:ToyLabeller", options=options)
    maker = replace(MAKER, settings=settings, floor=0.0)
    buy([gold_copper[:2]], store, maker)
    labels = buy([image(gold_copper[:2])], store, maker)
    assert bought(toy) == 2
    assert labels.rejected_by_reason == {"non-finite": 2}


def test_labels_of_a_version_without_likeness_are_recognised(
    toy: Path, store: JobStore, gold_copper: Frames
) -> None:
    buy([gold_copper[:3]], store)
    labels = store.additional_stores["labels"]
    documents = [
        {name: value for name, value in document.items() if name not in ("likeness", "copied_from")}
        for document in labels.query()
    ]
    labels.update(documents, key="label_id")
    assert labels.count({"likeness": None}) == 3
    assert buy([image(gold_copper[:3])], store).n_reused == 3
    assert bought(toy) == 3
    assert labels.count({"likeness": None}) == 0


def test_other_configurations_stay_distinct(gold_copper: Frames) -> None:
    nudge = np.zeros((8, 3))
    nudge[0, 0] = 0.001
    moved = replace(gold_copper, positions=gold_copper.positions + nudge)
    whole = replace(gold_copper, positions=gold_copper.positions + 0.1)
    frames = [gold_copper, moved, whole]
    assert len(distinct(frames)) == 36
    assert concatenate(distinct([gold_copper, image(gold_copper)]))[0].ids == gold_copper.ids
