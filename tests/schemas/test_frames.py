from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ionloop.schemas.frames import Frames, concatenate, label_id
from ionloop.schemas.packed import NotLoadedError

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def any_frames(draw):
    f, n = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    symbols = draw(st.lists(st.sampled_from(["Li", "Ge", "P", "S"]), min_size=n, max_size=n))
    labels = {}
    if draw(st.booleans()):
        labels["energies"] = draw(arrays(float, (f,), elements=FINITE))
        labels["forces"] = draw(arrays(float, (f, n, 3), elements=FINITE))
        labels["level"] = draw(st.sampled_from([None, "0123456789ab"]))
        if draw(st.booleans()):
            labels["virials"] = draw(arrays(float, (f, 3, 3), elements=FINITE))
    positions = draw(arrays(float, (f, n, 3), elements=FINITE))
    cells = draw(arrays(float, (f, 3, 3), elements=FINITE))
    names = st.lists(st.sampled_from(["a", "b"]), min_size=f, max_size=f)
    labels["groups"] = draw(st.none() | names)
    return Frames(tuple(symbols), positions, cells, **labels)


def labelled(f=3, n=4, seed=0):
    random = np.random.default_rng(seed)
    return Frames(
        symbols=("Li", "S") * (n // 2),
        positions=random.uniform(0, 6, (f, n, 3)),
        cells=np.eye(3) * 6 + random.normal(0, 0.1, (f, 3, 3)),
        energies=random.normal(size=f),
        forces=random.normal(size=(f, n, 3)),
        virials=random.normal(size=(f, 3, 3)),
        level="level-a",
    )


@given(any_frames())
def test_json_round_trip_is_exact(frames):
    back = Frames.from_dict(json.loads(json.dumps(frames.as_dict())))
    assert back == frames
    assert back.ids == frames.ids


def test_stored_size_is_at_most_one_point_four_times_the_arrays():
    frames = labelled(f=300, n=50)
    names = ("positions", "cells", "energies", "forces", "virials")
    n_bytes = sum(getattr(frames, name).nbytes for name in names)
    assert len(json.dumps(frames.as_dict())) <= 1.4 * n_bytes


def test_frames_that_were_stored_without_groups_load():
    frames = labelled()
    packed = frames.pack()
    del packed["groups"]
    assert Frames.unpack(packed) == frames
    assert frames.origins == frames.ids


def test_groups_follow_their_frames():
    frames = replace(labelled(), groups=("a", "a", "b"))
    assert frames[[2, 0]].groups == ("b", "a")
    assert frames.unlabelled().groups == frames.snapped().groups == frames.groups
    (joined,) = concatenate([labelled(seed=1), frames])
    assert joined.origins == (*labelled(seed=1).ids, "a", "a", "b")
    with pytest.raises(ValueError, match="1 groups for 3 frames"):
        replace(frames, groups=("a",))


def test_unloaded_frames_say_so():
    stored = labelled().as_dict() | {"packed": {"blob_uuid": "x", "store": "data"}}
    with pytest.raises(NotLoadedError, match="load=True"):
        Frames.from_dict(stored)


def test_ids_do_not_depend_on_labels():
    frames = labelled()
    assert frames.ids == frames.unlabelled().ids
    assert frames.ids == replace(frames, energies=frames.energies + 1, level="b").ids


@settings(max_examples=40)
@given(st.integers(0, 3), st.integers(0, 2), st.sampled_from([-1e-5, 1e-5]))
def test_a_small_move_changes_exactly_one_id(atom, axis, move):
    frames = labelled()
    positions = frames.positions.copy()
    positions[1, atom, axis] += move
    changed = replace(frames, positions=positions)
    assert [a == b for a, b in zip(frames.ids, changed.ids, strict=True)] == [True, False, True]


def test_ids_tell_species_and_cell():
    frames = labelled()
    assert not set(frames.ids) & set(replace(frames, symbols=("S", "Li", "Li", "S")).ids)
    assert not set(frames.ids) & set(replace(frames, cells=frames.cells * 1.0001).ids)


@given(any_frames())
def test_snapping_is_stable_and_keeps_ids_through_text(frames):
    snapped = frames.snapped()
    assert snapped.snapped() == snapped
    text = np.char.mod("%.6f", snapped.positions)
    assert replace(snapped, positions=text.astype(float)).ids == snapped.ids


def test_label_id_joins_frame_and_level():
    assert label_id("f", "a") != label_id("f", "b")


def test_selection_by_index_slice_list_and_mask():
    frames = labelled()
    assert frames[1].ids == frames.ids[1:2]
    assert frames[-1].ids == frames.ids[2:]
    assert frames[:2].ids == frames.ids[:2]
    assert frames[[2, 0]].ids == (frames.ids[2], frames.ids[0])
    assert frames[np.array([True, False, True])].ids == (frames.ids[0], frames.ids[2])
    assert np.array_equal(frames[1].forces[0], frames.forces[1])


@pytest.mark.parametrize(
    ("name", "shape"),
    [("positions", (3, 5, 3)), ("cells", (2, 3, 3)), ("forces", (3, 4)), ("virials", (3, 6))],
)
def test_wrong_shapes_are_named(name, shape):
    with pytest.raises(ValueError, match=name):
        replace(labelled(), **{name: np.zeros(shape)})


def test_energies_without_forces_are_refused():
    with pytest.raises(ValueError, match="both energies and forces"):
        replace(labelled(), forces=None)


def test_concatenate_keeps_every_frame_and_label():
    frames = labelled(f=5)
    (joined,) = concatenate([frames[:2], frames[2:2], frames[2:]])
    assert joined == frames


def test_concatenate_keeps_compositions_levels_and_virials_apart():
    frames = labelled()
    parts = [
        frames,
        replace(frames, symbols=("Li", "Li", "S", "S")),
        replace(frames, level="level-b"),
        replace(frames, virials=None),
    ]
    assert concatenate(parts) == parts


def test_concatenate_refuses_half_labels():
    frames = replace(labelled(), level=None, virials=None)
    with pytest.raises(ValueError, match="cannot be joined"):
        concatenate([frames, frames.unlabelled()])


def test_repr_is_short():
    assert repr(labelled()) == "<3 Frames of Li2S2, labelled at level-a>"
