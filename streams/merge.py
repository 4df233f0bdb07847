"""Merge: in which order the records of a task's inputs are processed.

By (time, input rank, offset), looking at the head of each input only: a partition is never reordered in itself. An
empty input that may still have records is waited for; one whose end was reached is not (Kafka Streams calls it task
idling, KIP-353 and KIP-695). So catching up merges as time did, and live traffic does not wait. What came of it, the
interleaving, is written to the journal as run lengths.

Leading inputs have no time: what is there of them is taken first, at the beginning of a batch. They are waited for only
until they were read to their end once; then what comes is taken when it comes, and its absence delays nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from headrace.schemas.records import Input

__all__ = ["Batch", "Merge", "ranks_of", "runs_of"]

Batch = list[tuple[int, Input]]


class Merge:
    """The bounded buffers in front of a task, one for each input, and the choice between their heads.

    The first `leading` inputs have no time.
    """

    def __init__(self, inputs: int, leading: int = 0) -> None:
        self.buffers: list[deque[Input]] = [deque() for _ in range(inputs)]
        self.ended = [False] * inputs
        self.leading = leading

    def __len__(self) -> int:
        return sum(len(buffer) for buffer in self.buffers)

    def feed(self, rank: int, item: Input) -> None:
        """A record arrived on the input with this rank."""
        self.buffers[rank].append(item)
        if rank >= self.leading:
            self.ended[rank] = False

    def end(self, rank: int) -> None:
        """The last thing received from this input was its end."""
        self.ended[rank] = True

    def waiting_for(self) -> list[int]:
        """Ranks of the inputs that are empty without having ended."""
        return [rank for rank, buffer in enumerate(self.buffers) if not buffer and not self.ended[rank]]

    def take(self, limit: int) -> Batch:
        """At most `limit` records in merge order; fewer when an input must be waited for, or all are empty."""
        out: Batch = []
        buffers, ended, leading = self.buffers, self.ended, self.leading
        for rank in range(leading):
            buffer = buffers[rank]
            while buffer and len(out) < limit:
                out.append((rank, buffer.popleft()))
            if buffer or not ended[rank]:
                return out
        if len(buffers) == leading + 2:
            self._zip(leading, limit - len(out), out)
        timed = [(rank, buffers[rank]) for rank in range(leading, len(buffers))]
        while len(out) < limit:
            best = -1
            best_ms = others_ms = 0
            others_rank = -1
            for rank, buffer in timed:
                if not buffer:
                    if not ended[rank]:
                        return out
                    continue
                time_ms = buffer[0][0]
                if best < 0 or time_ms < best_ms:
                    others_ms, others_rank = best_ms, best
                    best, best_ms = rank, time_ms
                elif others_rank < 0 or time_ms < others_ms:
                    others_ms, others_rank = time_ms, rank
            if best < 0:
                return out
            self._gallop(best, others_rank, others_ms, limit, out)
        return out

    def _zip(self, rank: int, limit: int, out: Batch) -> None:
        """Take from the two inputs from this rank on, as long as both have records."""
        one, other, append, above = self.buffers[rank], self.buffers[rank + 1], out.append, rank + 1
        next_one, next_other = one.popleft, other.popleft
        if not one or not other:
            return
        one_ms, other_ms = one[0][0], other[0][0]
        for _ in range(limit):
            if one_ms <= other_ms:
                append((rank, next_one()))
                if not one:
                    return
                one_ms = one[0][0]
            else:
                append((above, next_other()))
                if not other:
                    return
                other_ms = other[0][0]

    def _gallop(self, best: int, others_rank: int, others_ms: int, limit: int, out: Batch) -> None:
        """Take from `best` while its head comes before the best head of the others."""
        buffer = self.buffers[best]
        if others_rank < 0:
            count = min(len(buffer), limit - len(out))
            out.extend((best, buffer.popleft()) for _ in range(count))
            return
        before = others_ms if best > others_rank else others_ms + 1
        room = limit - len(out)
        while buffer and room and buffer[0][0] < before:
            out.append((best, buffer.popleft()))
            room -= 1


def runs_of(ranks: Iterable[int], inputs: int, leading: int = 0) -> list[int]:
    """Run lengths of an interleaving, the ranks taking turns from 0; a skipped turn is a run of 0.

    The leading ranks have one turn only, before all others.
    """
    runs: list[int] = []
    turn = length = 0
    for rank in ranks:
        if rank == turn:
            length += 1
            continue
        runs.append(length)
        turn = _after(turn, inputs, leading)
        while rank != turn:
            runs.append(0)
            turn = _after(turn, inputs, leading)
        length = 1
    runs.append(length)
    return runs


def ranks_of(runs: Sequence[int], inputs: int, leading: int = 0) -> Iterable[int]:
    """The interleaving that `runs_of` was given."""
    turn = 0
    for length in runs:
        for _ in range(length):
            yield turn
        turn = _after(turn, inputs, leading)


def _after(turn: int, inputs: int, leading: int) -> int:
    """Whose turn is next."""
    return turn + 1 if turn + 1 < inputs else leading
