from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ionloop.stores.sql_filter import column_value, field_value, sql_filter


def test_indexed_fields_go_to_sql_and_the_rest_stays():
    found = sql_filter({"run": "r", "other": 3, "n": {"$gte": 2, "$ne": 5}}, {"run", "n"})
    assert found.where == (
        '"field:run" IN (?, x\'\') AND ("field:n" >= ? AND "field:n" < \'\' OR "field:n" = x\'\')'
    )
    assert found.values == ["r", 2]
    assert found.columns == {"run", "n"}
    assert found.rest == {"other": 3, "n": {"$ne": 5}}


@pytest.mark.parametrize(
    "criteria",
    [
        {"n": [1]},
        {"n": {"x": 1}},
        {"n": {"$in": [1, None]}},
        {"n": {"$gt": True}},
        {"n": {"$in": list(range(40_000))}},
        {"$or": [{"n": 1}, {"other": 2}]},
        {"$nor": [{"n": 1}]},
    ],
)
def test_what_columns_cannot_tell_is_left(criteria):
    found = sql_filter(criteria, {"n"})
    assert found.where == "1"
    assert found.rest == criteria


def test_missing_fields_are_found_by_their_column():
    found = sql_filter({"n": None}, {"n"})
    assert found.where == """("field:n" IS NULL OR "field:n" = x'')"""
    assert (found.values, found.rest) == ([], {})


def test_column_values_sort_as_in_mongodb():
    old, new = datetime(1960, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)
    blobs = [column_value(value) for value in ([1], False, True, old, new)]
    assert blobs == sorted(blobs)
    assert len(set(blobs)) == 5
    assert column_value(float("nan")) == column_value({}) == column_value(b"x") == b""


def test_field_value():
    document = {"a": {"b": [{"c": 1}], "d": None}}
    assert field_value(document, "a.d") is None
    assert field_value(document, "a.x.y") is None
    assert field_value(document, "a.b.c") == [{"c": 1}]
    assert field_value(document, "a.d.e") is None
