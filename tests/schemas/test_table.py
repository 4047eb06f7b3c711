from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ionloop.schemas.table import Table, join_tables

WORDS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)


@st.composite
def any_table(draw):
    n = draw(st.integers(0, 6))
    words = draw(st.lists(WORDS, min_size=n, max_size=n))
    return Table(
        {
            "step": draw(arrays(np.int64, n)),
            "deviation": draw(arrays(np.float64, n)),
            "finished": draw(arrays(np.bool_, n)),
            "reason": np.array(words, dtype=str),
        }
    )


@given(any_table())
def test_json_round_trip_is_exact(table):
    back = Table.from_dict(json.loads(json.dumps(table.as_dict())))
    assert back.names == table.names
    assert len(back) == len(table)
    for name in ("step", "deviation", "finished"):
        assert back[name].dtype == table[name].dtype
        assert back[name].tobytes() == table[name].tobytes()
    assert back["reason"].tolist() == table["reason"].tolist()


def test_a_word_costs_one_byte_a_row():
    table = Table({"verdict": np.array(["accurate", "candidate", "failed"] * 10_000)})
    assert len(json.dumps(table.as_dict())) < 1.4 * len(table)


def test_more_than_256_words():
    words = np.array([f"word {i}" for i in range(1000)])
    assert Table.from_dict(Table({"w": words}).as_dict())["w"].tolist() == words.tolist()


def test_rows_where_and_join():
    table = Table({"a": np.arange(4), "b": np.array(list("wxyz"))})
    chosen = table.where(table["a"] % 2 == 1)
    assert list(chosen.rows()) == [{"a": 1, "b": "x"}, {"a": 3, "b": "z"}]
    assert join_tables([table, chosen])["a"].tolist() == [0, 1, 2, 3, 1, 3]
    assert table.with_columns(c=table["a"] * 2)["c"].tolist() == [0, 2, 4, 6]
    assert len(join_tables([])) == 0


def test_columns_have_one_length():
    with pytest.raises(ValueError, match="one length"):
        Table({"a": np.arange(3), "b": np.arange(2)})
