from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ionloop.engines.local.journal import Entry
from ionloop.engines.local.schedule import fitting, ready, skips


def entry(uuid: str, **changes: Any) -> Entry:
    plain = Entry(
        job_id=f"{uuid}-1",
        uuid=uuid,
        index=1,
        name=uuid,
        role="job",
        state="waiting",
        parents=frozenset(),
        holds=frozenset(),
        tolerant=False,
        cores=1,
        tries=0,
        order=0,
    )
    return replace(plain, **changes)


def names(entries: list[Entry]) -> list[str]:
    return [each.name for each in entries]


def test_children_wait_for_the_replacement_of_a_parent() -> None:
    first = entry("a", state="completed")
    second = entry("a", index=2, job_id="a-2", holds=frozenset({"a"}))
    child = entry("b", parents=frozenset({"a"}))
    entries = [first, second, child]
    assert names(ready(entries)) == ["a"]
    entries = [first, replace(second, state="completed"), child]
    assert names(ready(entries)) == ["b"]


def test_a_parent_from_elsewhere_is_settled() -> None:
    entries = [entry("b", parents=frozenset({"from an earlier run"}))]
    assert ready(entries) == entries


def test_skipped_for_a_failed_parent_unless_tolerant() -> None:
    parents = frozenset({"a"})
    entries = [
        entry("a", state="failed"),
        entry("b", parents=parents),
        entry("c", parents=parents, tolerant=True),
    ]
    assert [each.reason for each in skips(entries)] == [
        "b was skipped: a parent failed or was skipped"
    ]
    assert names(ready(entries)) == ["c"]


def test_a_tolerant_job_is_skipped_where_no_parent_was_tried() -> None:
    entries = [
        entry("a", state="skipped"),
        entry("b", state="skipped"),
        entry("c", state="failed"),
        entry("d", parents=frozenset({"a", "b"}), tolerant=True),
        entry("e", parents=frozenset({"a", "c"}), tolerant=True),
    ]
    assert names([each.entry for each in skips(entries)]) == ["d"]
    assert names(ready(entries)) == ["e"]


def test_stopped_children_are_skipped_even_if_tolerant() -> None:
    entries = [
        entry("a", state="completed", stop="children"),
        entry("b", parents=frozenset({"a"}), tolerant=True),
        entry("c"),
    ]
    assert [(each.entry.name, each.stop) for each in skips(entries)] == [("b", "children")]
    assert names(ready(entries)) == ["c"]


def test_a_stopped_run_starts_nothing() -> None:
    entries = [entry("a", state="completed", stop="run"), entry("b")]
    assert names([each.entry for each in skips(entries)]) == ["b"]
    assert ready(entries) == []


@given(
    cores=st.lists(st.integers(1, 40), max_size=20),
    budget=st.integers(1, 16),
    used=st.integers(0, 16),
)
def test_chosen_jobs_fit_and_a_free_machine_is_never_idle(
    cores: list[int], budget: int, used: int
) -> None:
    free = max(budget - used, 0)
    able = [entry(str(i), cores=n) for i, n in enumerate(cores)]
    chosen = fitting(able, free, budget)
    assert sum(min(each.cores, budget) for each in chosen) <= free
    assert chosen == [each for each in able if each in chosen]
    if able and free == budget:
        assert chosen[0] == able[0]


@st.composite
def graphs(draw: st.DrawFn) -> list[Entry]:
    """Jobs in random order of submission, whose parents come from among those before them."""
    n = draw(st.integers(1, 12))
    orders = draw(st.permutations(range(n)))
    return [
        entry(
            str(i),
            order=orders[i],
            tolerant=draw(st.booleans()),
            parents=frozenset(
                str(p) for p in draw(st.sets(st.integers(0, max(i - 1, 0)), max_size=3)) if p < i
            ),
        )
        for i in range(n)
    ]


@given(graph=graphs(), data=st.data())
def test_every_job_ends_after_its_parents(graph: list[Entry], data: st.DataObject) -> None:
    entries = {each.uuid: each for each in graph}
    ended: list[str] = []
    while able := ready(entries.values()):
        assert names(able) == names(sorted(able, key=lambda each: each.order))
        chosen = data.draw(st.sampled_from(able))
        assert chosen.parents <= set(ended)
        state = data.draw(st.sampled_from(["completed", "failed"]))
        entries[chosen.uuid] = replace(chosen, state=state)  # type: ignore[arg-type]
        ended.append(chosen.uuid)
        while found := skips(entries.values()):
            for skipped in found:
                entries[skipped.entry.uuid] = replace(skipped.entry, state="skipped")
                ended.append(skipped.entry.uuid)
    assert sorted(ended) == sorted(entries)
    untried = {uuid for uuid, each in entries.items() if each.state == "skipped"}
    lost = untried | {uuid for uuid, each in entries.items() if each.state == "failed"}
    for each in entries.values():
        tolerant = each.tolerant and not each.parents <= untried
        assert (each.state == "skipped") == bool(each.parents & lost and not tolerant)
