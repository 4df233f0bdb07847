"""A Kafka broker as far as transactions go: partition logs, the transaction coordinator, committed offsets.

What is modelled: control markers (they take an offset), open and aborted transactions, the last stable offset below
the high watermark, transactional ids with epochs (a new start of the id fences the older and aborts what it left open),
the coordinator's transaction timeout (aborts, and fences), offsets that are pending until their transaction ends,
compaction below the last stable offset, late copies of EndTxn and of offsets that hit whatever transaction the same
epoch has open by then, and transactions that end without the markers of all or some of their partitions: what they
wrote there, offsets too, waits for the next marker of the same id, whichever it is (`streams/leftovers.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

from headrace.streams.errors import Aborted, Fault, Fenced
from tests.simulation.clock import Clock

__all__ = ["OFFSETS", "Broker", "Partition", "PassesOver", "Row", "Txn"]

TP = tuple[str, int]
PassesOver = Callable[[TP], bool]
"""Whether the marker of a partition is not written; of the offsets it is that of `OFFSETS`."""
OFFSETS: TP = ("__consumer_offsets", 0)


class Txn:
    """One transaction: where it wrote, and the offsets it will commit."""

    __slots__ = ("began", "offsets", "partitions", "state")

    def __init__(self, began: float) -> None:
        self.began = began
        self.state = "open"
        self.partitions: dict[TP, Partition] = {}
        self.offsets: dict[str, dict[TP, int]] = {}


class Row:
    """A data record in a partition."""

    __slots__ = ("headers", "key", "offset", "timestamp_ms", "txn", "value")

    def __init__(
        self, offset: int, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Any, txn: Txn | None
    ) -> None:
        self.offset, self.key, self.value = offset, key, value
        self.timestamp_ms, self.headers, self.txn = timestamp_ms, headers, txn

    @property
    def committed(self) -> bool:
        """Whether a read_committed consumer is given it (below the last stable offset)."""
        return self.txn is None or self.txn.state == "committed"


class Partition:
    """A partition's log."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.high = 0
        self.low = 0
        self.open: dict[int, int] = {}
        self.readers = 0
        self._offsets: list[int] = []

    @property
    def stable(self) -> int:
        """The last stable offset."""
        return min(self.open.values()) if self.open else self.high

    def append(self, txn: Txn | None, key: bytes | None, value: bytes | None, at_ms: int, headers: Any = None) -> None:
        """Write one record."""
        if txn is not None:
            self.open.setdefault(id(txn), self.high)
        self.rows.append(Row(self.high, key, value, at_ms, headers, txn))
        self._offsets.append(self.high)
        self.high += 1

    def mark(self, txn: Txn) -> None:
        """Write the control marker that ends `txn` here."""
        if self.open.pop(id(txn), None) is not None:
            self.high += 1

    def leave(self, txn: Txn) -> Txn | None:
        """`txn` ends without a marker here: what it wrote, if anything, stays open as a transaction of its own."""
        first = self.open.pop(id(txn), None)
        if first is None:
            return None
        left = Txn(txn.began)
        for row in self.rows[self.index(first) :]:
            if row.txn is txn:
                row.txn = left
        self.open[id(left)] = first
        return left

    def index(self, offset: int) -> int:
        """Index of the first row at or after `offset`."""
        return bisect_left(self._offsets, offset)

    def committed(self, start: int = 0, end: int | None = None) -> Iterator[Row]:
        """Committed rows in [start, end), below the last stable offset."""
        end = self.stable if end is None else min(end, self.stable)
        for row in self.rows[self.index(start) : self.index(end)]:
            if row.committed:
                yield row

    def compact(self) -> None:
        """Keep the last committed value of each key below the last stable offset; drop aborted rows and tombstones.

        A tombstone stays while somebody reads: the broker keeps it for `delete.retention.ms`.
        """
        stable = self.index(self.stable)
        last = {row.key: row.offset for row in self.rows[:stable] if row.committed}
        kept = [
            row
            for row in self.rows[:stable]
            if row.committed and last[row.key] == row.offset and (row.value is not None or self.readers)
        ]
        self.rows = kept + self.rows[stable:]
        self._offsets = [row.offset for row in self.rows]


class _Id:
    """What the coordinator knows of a transactional id."""

    __slots__ = ("epoch", "left", "pending", "result", "timeout_s", "txn")

    def __init__(self) -> None:
        self.epoch = -1
        self.left: dict[TP, list[Txn]] = {}
        self.pending: dict[str, dict[TP, int]] = {}
        self.txn: Txn | None = None
        self.timeout_s = 60.0
        self.result = ""


class Broker:
    """All partitions, the transaction coordinator, and what groups have committed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.partitions: dict[TP, Partition] = {}
        self.ids: dict[str, _Id] = {}
        self.offsets: dict[str, dict[TP, int]] = {}
        self.late: list[tuple[float, str, int, tuple[Any, ...]]] = []
        self.late_hits = 0
        self.check: Callable[[Any], None] = lambda metadata: None
        self.forgets: Callable[[], PassesOver | None] = lambda: None

    def partition(self, topic: str, number: int) -> Partition:
        """A partition; one that nobody made is an error in the simulation."""
        return self.partitions[topic, number]

    # -- transactions --------------------------------------------------------------------------------------------

    def start_id(self, name: str, timeout_s: float) -> int:
        """InitProducerId: end what the predecessor left open, fence it, give the new epoch."""
        entry = self.ids.setdefault(name, _Id())
        if entry.txn is not None:
            self._end(entry, commit=False)
        entry.epoch += 1
        entry.timeout_s = timeout_s
        entry.result = ""
        return entry.epoch

    def add(self, name: str, epoch: int, tp: TP | None) -> Txn:
        """AddPartitionsToTxn / AddOffsetsToTxn: part of the transaction from now on, which begins with the first."""
        entry = self._entry(name, epoch)
        if entry.txn is None:
            entry.txn = Txn(self.clock.now)
            entry.result = ""
        if tp is not None:
            entry.txn.partitions[tp] = self.partitions[tp]
        return entry.txn

    def write(self, name: str, epoch: int, tp: TP, key: bytes | None, value: bytes | None, headers: Any) -> None:
        """Produce: refused where the partition is not in the transaction (KIP-890's check on the broker)."""
        entry = self._entry(name, epoch)
        if entry.txn is None or tp not in entry.txn.partitions:
            raise Aborted("INVALID_TXN_STATE: the partition is not in a transaction")
        self.partitions[tp].append(entry.txn, key, value, self.clock.wall_ms(), headers)

    def write_offsets(self, name: str, epoch: int, group: str, offsets: dict[TP, int]) -> None:
        """TxnOffsetCommit, after the group's coordinator let it pass."""
        entry = self._entry(name, epoch)
        if entry.txn is None:
            raise Aborted("INVALID_TXN_STATE: no transaction")
        entry.txn.offsets.setdefault(group, {}).update(offsets)

    def end(self, name: str, epoch: int, *, commit: bool, passes: PassesOver | None = None) -> None:
        """EndTxn; a second one with the same result is answered as the first."""
        entry = self._entry(name, epoch)
        if entry.txn is None:
            if entry.result != ("commit" if commit else "abort"):
                raise Aborted("INVALID_TXN_STATE: no transaction to end")
            return
        self._end(entry, commit=commit, passes=passes)

    def unstable(self, group: str, wanted: list[TP]) -> bool:
        """Whether an open transaction holds offsets of these partitions."""
        held = [entry.txn.offsets.get(group, {}) for entry in self.ids.values() if entry.txn is not None]
        held += [entry.pending.get(group, {}) for entry in self.ids.values()]
        return any(tp in offsets for offsets in held for tp in wanted)

    def tick(self) -> None:
        """Time has passed: late copies arrive, transactions time out."""
        now = self.clock.now
        due = [copy for copy in self.late if copy[0] <= now]
        if due:
            self.late = [copy for copy in self.late if copy[0] > now]
            for _, name, epoch, request in sorted(due, key=lambda copy: copy[0]):
                self._late(name, epoch, *request)
        for entry in self.ids.values():
            if entry.txn is not None and now - entry.txn.began > entry.timeout_s:
                self._end(entry, commit=False, passes=self.forgets())
                entry.epoch += 1

    def next_deadline(self) -> float | None:
        """When the broker will do something by itself, if it will."""
        times = [copy[0] for copy in self.late]
        times += [entry.txn.began + entry.timeout_s for entry in self.ids.values() if entry.txn is not None]
        return min(times) if times else None

    def _late(self, name: str, epoch: int, kind: str, metadata: Any, offsets: Any) -> None:
        entry = self.ids[name]
        if entry.epoch != epoch or entry.txn is None:
            return
        if kind == "end":
            self.late_hits += 1
            self._end(entry, commit=True)
        elif metadata[0] in entry.txn.offsets:
            try:
                self.check(metadata)
            except Fault:
                return
            self.late_hits += 1
            entry.txn.offsets[metadata[0]].update(offsets)

    def _entry(self, name: str, epoch: int) -> _Id:
        entry = self.ids[name]
        if entry.epoch != epoch:
            raise Fenced(f"PRODUCER_FENCED: {name} has epoch {entry.epoch}, not {epoch}")
        return entry

    def commit_rest(self, name: str, places: list[TP]) -> list[TP]:
        """Commit what the id's last transaction has open in these partitions, if it was decided to be committed."""
        entry = self.ids.get(name)
        if entry is None or entry.txn is not None or entry.result != "commit":
            return []
        found = [tp for tp in places if tp in entry.left or (tp == OFFSETS and entry.pending)]
        for tp in found:
            self._mark(entry, tp, "committed")
        if OFFSETS in found:
            for group, offsets in entry.pending.items():
                self.offsets.setdefault(group, {}).update(offsets)
            entry.pending.clear()
        return found

    def ends(self, tp: TP) -> tuple[int, int]:
        """The last stable offset, and the high watermark; of the offsets only whether any are pending is modelled."""
        if tp == OFFSETS:
            return 0, int(any(entry.pending or (entry.txn and entry.txn.offsets) for entry in self.ids.values()))
        return self.partitions[tp].stable, self.partitions[tp].high

    def _mark(self, entry: _Id, tp: TP, state: str) -> None:
        for left in entry.left.pop(tp, ()):
            left.state = state
            self.partitions[tp].mark(left)

    def _end(self, entry: _Id, *, commit: bool, passes: PassesOver | None = None) -> None:
        txn, entry.txn = entry.txn, None
        assert txn is not None
        entry.result = "commit" if commit else "abort"
        state = "committed" if commit else "aborted"
        for tp, partition in txn.partitions.items():
            if passes is not None and passes(tp):
                left = partition.leave(txn)
                if left is not None:
                    entry.left.setdefault(tp, []).append(left)
            else:
                self._mark(entry, tp, state)
                partition.mark(txn)
        txn.state = state
        pending = passes is not None and passes(OFFSETS)
        for group, offsets in txn.offsets.items():
            if pending:
                entry.pending.setdefault(group, {}).update(offsets)
                continue
            taken = entry.pending.pop(group, {}) | offsets
            if commit:
                self.offsets.setdefault(group, {}).update(taken)
