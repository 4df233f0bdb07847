"""The merge against a naive choice among the heads, and the run lengths that record what it chose."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.records import Input
from headrace.streams.journal import numbers, varints
from headrace.streams.merge import Merge, ranks_of, runs_of

INPUTS = st.integers(1, 4)


def item(time_ms: int, offset: int) -> Input:
    return Input(time_ms, 0, offset, None, None, 0, None)


@st.composite
def schedules(draw: Any) -> tuple[int, list[tuple[Any, ...]]]:
    """Steps for a merge: records arrive, an input's end is reached, a batch is taken."""
    inputs = draw(INPUTS)
    rank = st.integers(0, inputs - 1)
    step = st.one_of(
        st.tuples(st.just("feed"), rank, st.lists(st.integers(0, 6), min_size=1, max_size=5)),
        st.tuples(st.just("end"), rank),
        st.tuples(st.just("take"), st.integers(1, 8)),
    )
    return inputs, draw(st.lists(step, max_size=40))


def naive(heads: list[deque[Input]], ended: list[bool], limit: int) -> list[tuple[int, Input]]:
    """The least (time, rank) of the heads; an empty input that has not ended is waited for."""
    out: list[tuple[int, Input]] = []
    while len(out) < limit:
        if any(not head and not done for head, done in zip(heads, ended, strict=True)):
            break
        there = [(head[0].time_ms, rank) for rank, head in enumerate(heads) if head]
        if not there:
            break
        rank = min(there)[1]
        out.append((rank, heads[rank].popleft()))
    return out


@given(schedules())
def test_the_merge_is_the_sort_of_the_heads(schedule: tuple[int, list[tuple[Any, ...]]]) -> None:
    """Whatever arrives, ends and is taken in whatever order, batches are those of the naive choice."""
    inputs, steps = schedule
    merge = Merge(inputs)
    heads: list[deque[Input]] = [deque() for _ in range(inputs)]
    ended, offsets = [False] * inputs, [0] * inputs
    for step in steps:
        if step[0] == "feed":
            for time_ms in step[2]:
                merge.feed(step[1], item(time_ms, offsets[step[1]]))
                heads[step[1]].append(item(time_ms, offsets[step[1]]))
                offsets[step[1]] += 1
            ended[step[1]] = False
        elif step[0] == "end":
            merge.end(step[1])
            ended[step[1]] = True
        else:
            assert merge.take(step[1]) == naive(heads, ended, step[1])
        assert len(merge) == sum(map(len, heads))
        assert merge.waiting_for() == [r for r in range(inputs) if not heads[r] and not ended[r]]


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=4), st.integers(1, 7), st.integers(1, 7))
def test_complete_inputs_merge_alike_in_batches_of_any_size(times: list[list[int]], one: int, other: int) -> None:
    """All that was published before comes out once, each input in its own order."""

    def merged(limit: int) -> list[tuple[int, Input]]:
        merge, out = Merge(len(times)), []
        for rank, of_input in enumerate(times):
            for offset, time_ms in enumerate(of_input):
                merge.feed(rank, item(time_ms, offset))
            merge.end(rank)
        while batch := merge.take(limit):
            out += batch
        return out

    assert merged(one) == merged(other)
    for rank, of_input in enumerate(times):
        assert [i.time_ms for r, i in merged(one) if r == rank] == of_input


@given(INPUTS.flatmap(lambda inputs: st.tuples(st.just(inputs), st.lists(st.integers(0, inputs - 1), max_size=60))))
def test_an_interleaving_comes_back_from_its_run_lengths(case: tuple[int, list[int]]) -> None:
    """Through the bytes of the journal too."""
    inputs, ranks = case
    assert list(ranks_of(numbers(varints(runs_of(ranks, inputs))), inputs)) == ranks


@given(st.lists(st.integers(0, 2**70)))
def test_numbers_come_back_from_varints(given_numbers: list[int]) -> None:
    """Of any size, in one byte where they are below 128."""
    data = varints(given_numbers)
    assert numbers(data) == given_numbers
    assert len(data) == sum(max(1, -(-n.bit_length() // 7)) for n in given_numbers)


def test_leading_inputs_come_first_and_are_waited_for_once() -> None:
    """What has no time is taken at the beginning of a batch; once read to its end, its absence delays nothing."""
    merge = Merge(3, leading=1)
    for rank in (1, 2):
        merge.feed(rank, item(5, 0))
        merge.end(rank)
    assert merge.take(10) == []
    merge.feed(0, item(-1, 0))
    assert [rank for rank, _ in merge.take(10)] == [0]
    merge.end(0)
    merge.feed(0, item(-1, 1))
    assert [rank for rank, _ in merge.take(10)] == [0, 1, 2]
    merge.feed(1, item(6, 1))
    merge.end(1)
    assert [rank for rank, _ in merge.take(10)] == [1]


@given(st.integers(0, 3), st.lists(st.integers(1, 2), max_size=60))
def test_an_interleaving_with_leading_records_comes_back(first: int, others: list[int]) -> None:
    """Their one turn costs a byte a batch, however often the others alternate."""
    ranks = [0] * first + others
    runs = runs_of(ranks, 3, leading=1)
    assert list(ranks_of(numbers(varints(runs)), 3, leading=1)) == ranks
    assert len(runs) <= 2 + len(runs_of([rank - 1 for rank in others], 2))
