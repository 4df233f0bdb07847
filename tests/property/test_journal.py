"""The journal's digest notices every byte that moves, and its records come back as they were written."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from headrace.streams import journal
from headrace.streams.journal import Entry, Epoch, digest
from headrace.streams.packing import pack, unpack

ROLES = ("features", "predictions", "examples", "evaluations", "alerts", "dead-letter")
BYTES = st.none() | st.binary(max_size=4)
HEADERS = st.none() | st.lists(
    st.tuples(st.sampled_from(["a", "ab", "reason"]), st.binary(max_size=3)), min_size=1, max_size=2
)
OUTPUTS = st.lists(st.tuples(st.sampled_from(ROLES), BYTES, BYTES, HEADERS), max_size=4)


@given(OUTPUTS, OUTPUTS)
def test_other_outputs_have_another_digest(one: list[Any], other: list[Any]) -> None:
    """A null key or value is not an empty one."""
    assert (digest(one) == digest(other)) is (one == other)


@given(OUTPUTS, st.data())
def test_any_moved_byte_changes_the_digest(outputs: list[Any], data: st.DataObject) -> None:
    """From the end of one field to the beginning of the next, within a record or across two."""
    fields: list[list[Any]] = [[role, key, value, headers] for role, key, value, headers in outputs]
    places = [(i, j) for i, output in enumerate(fields) for j in (1, 2) if output[j] is not None]
    assume(len(places) > 1)
    at = data.draw(st.integers(0, len(places) - 2))
    (i, j), (k, m) = places[at], places[at + 1]
    assume(fields[i][j])
    before = digest(outputs)
    fields[i][j], moved = fields[i][j][:-1], fields[i][j][-1:]
    fields[k][m] = moved + fields[k][m]
    assert digest([tuple(output) for output in fields]) != before


def _record(output: Any) -> Any:
    """What is published: no headers are the same as none."""
    return *output[:3], output[3] or None


@given(OUTPUTS.filter(lambda outputs: len(outputs) > 1 and _record(outputs[0]) != _record(outputs[1])))
def test_the_order_of_outputs_is_in_the_digest(outputs: list[Any]) -> None:
    """Two that change places are noticed."""
    assert digest([outputs[1], outputs[0], *outputs[2:]]) != digest(outputs)


SMALL = st.integers(0, 2**40)


@given(
    st.builds(
        Entry,
        seq=SMALL,
        epoch=SMALL,
        starts=st.lists(SMALL, max_size=3),
        ends=st.lists(SMALL, max_size=3),
        runs=st.binary(),
        outputs=SMALL,
        digest=st.binary(min_size=16, max_size=16),
    )
)
def test_an_entry_comes_back(entry: Entry) -> None:
    """Through its bytes."""
    assert journal.read(journal.write(entry)) == entry


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
SPECS = st.dictionaries(st.text(max_size=4), PLAIN, max_size=4)


@given(SMALL, SMALL, SPECS, SPECS)
def test_an_epoch_comes_back_with_its_specification(seq: int, epoch: int, spec: Any, environment: Any) -> None:
    """So that a changed specification can be named from the journal alone."""
    written = Epoch(seq, epoch, journal.spec_hash(spec, environment), spec, environment)
    assert journal.read(journal.write(written)) == written


@given(SPECS, SPECS)
def test_what_changed_between_specifications_is_named_exactly_if_something_did(one: Any, other: Any) -> None:
    """No change, no name; equal specifications have equal hashes whatever the order of their keys."""
    assert bool(journal.changes(one, other)) == (one != other)
    assert journal.changes(one, one) == []
    assert journal.changes(unpack(pack(one)), one) == []  # as a checkpoint gives it back
    turned = dict(reversed(list(one.items())))
    assert journal.spec_hash(turned, {}) == journal.spec_hash(one, {})
