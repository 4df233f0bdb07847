"""A proxy in front of a broker that knows where a Kafka request begins and ends, and can spoil it.

Clients come to a listener of the broker that is advertised at the proxy's port (`settings`), so that every connection
of theirs goes through it. Requests and answers pass as whole frames. Faults are asked for from any thread:

- `delay`: every frame waits, for a time;
- `cut`: the next request, or the next answer, passes by half, then the connection is closed;
- `reset`: all connections are reset;
- `black_hole`: nothing passes in either direction for a time;
- `hold_end_txn`: the next EndTxn is kept back and its connection closed, so that the client sends it again; once the
  client has gone on to its next transaction, the late original reaches the broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from headrace.deploy import broker
from headrace.deploy.server import any_port

__all__ = ["END_TXN", "Proxy", "behind_proxy", "settings"]

PRODUCE, ADD_PARTITIONS, ADD_OFFSETS, END_TXN, TXN_OFFSET_COMMIT = 0, 24, 25, 26, 28
_MOMENTS = (PRODUCE, ADD_PARTITIONS, ADD_OFFSETS, TXN_OFFSET_COMMIT)
_HOST = "127.0.0.1"


@contextlib.contextmanager
def behind_proxy(instance: str, data: Path) -> Iterator[tuple[Callable[[], broker.Status], Proxy]]:
    """A broker and the proxy in front of it; the function (re)starts the broker on its data and says how it is."""
    direct, behind, controller = (any_port() for _ in range(3))
    with Proxy(behind) as proxy:
        config = settings(direct, behind, controller, proxy.port)

        def start() -> broker.Status:
            deadline = time.monotonic() + 30
            while True:  # a client that tries to connect to a port where nobody listens may get it for its own end
                try:
                    return broker.start(instance=instance, data_dir=data, port=direct, config=config, progress=False)
                except broker.BrokerError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(0.1)

        try:
            yield start, proxy
        finally:
            broker.stop(instance=instance)


def settings(port: int, behind: int, controller: int, proxy: int) -> dict[str, str]:
    """Kafka settings for a broker whose clients at `behind` are sent to `proxy`; those at `port` come directly."""
    listeners = {"PLAINTEXT": port, "PROXIED": behind, "CONTROLLER": controller}
    return {
        "listeners": ",".join(f"{name}://{_HOST}:{number}" for name, number in listeners.items()),
        "advertised.listeners": f"PLAINTEXT://{_HOST}:{port},PROXIED://{_HOST}:{proxy}",
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        "controller.quorum.voters": f"1@{_HOST}:{controller}",
    }


@dataclass
class _Held:
    """An EndTxn that is kept back, and how far its client has gone on without it."""

    frame: bytes
    name: bytes
    moment: int
    repeated: bool = False
    due: bool = False
    released: bool = False


class Proxy:
    """Listens at a port of its own, in a thread, as a context manager.

    `requests` counts frames by API key, `faults` what was done to them. Of `faults["held_endtxn"]`, `late_endtxn` have
    reached the broker after their repetition, and of those it took `late_accepted` for new ones.
    """

    def __init__(self, behind: int, port: int = 0) -> None:
        self.behind = behind
        self.requests: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self._listener = socket.create_server((_HOST, port))
        self.port = int(self._listener.getsockname()[1])
        self._delay_s, self._delay_until, self._hole_until = 0.0, 0.0, 0.0
        self._cut_request = self._cut_answer = 0
        self._to_hold: list[int] = []
        self._asked = 0
        self._held: list[_Held] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ask(self._loop.stop)
        self._thread.join(10)
        self._listener.close()

    @property
    def bootstrap(self) -> str:
        """Where clients find the broker, through this proxy."""
        return f"{_HOST}:{self.port}"

    # -- faults --------------------------------------------------------------------------------------------------

    def delay(self, seconds: float, during_s: float) -> None:
        """Let every frame wait `seconds`, for the next `during_s`."""
        self._delay_s, self._delay_until = seconds, time.monotonic() + during_s
        self.faults["delay"] += 1

    def cut(self, *, answer: bool = False) -> None:
        """Pass half of the next request (or answer), then close the connection."""
        if answer:
            self._cut_answer += 1
        else:
            self._cut_request += 1

    def reset(self) -> None:
        """Reset all connections."""
        self._ask(self._reset)

    def black_hole(self, during_s: float) -> None:
        """Pass nothing for a time."""
        self._hole_until = time.monotonic() + during_s
        self.faults["black_hole"] += 1

    def hold_end_txn(self, moment: int | None = None) -> None:
        """Keep back the next EndTxn until its client sends this kind of request (by default they take turns)."""
        turns = self._asked
        self._asked += 1
        self._to_hold.append(_MOMENTS[turns % len(_MOMENTS)] if moment is None else moment)

    @property
    def holding(self) -> int:
        """How many EndTxn are wanted or kept back now."""
        return len(self._to_hold) + sum(not held.released for held in self._held)

    # -- frames --------------------------------------------------------------------------------------------------

    def _ask(self, function: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(function)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, sock=self._listener))
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0))  # a connection accepted a moment ago becomes a task
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(_HOST, self.behind)
        except OSError:
            self._abort(writer)
            return
        self._writers |= {writer, up_writer}
        ways = [
            asyncio.ensure_future(self._requests(reader, up_writer)),
            asyncio.ensure_future(self._answers(up_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, up_writer):
                self._writers.discard(end)
                self._abort(end)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (frame := await self._frame(reader)) is not None:
            await self._wait()
            (api,) = struct.unpack_from(">h", frame, 4)
            self.requests[api] += 1
            if self._cut_request and len(frame) > 40:
                self._cut_request -= 1
                self.faults["cut_request"] += 1
                writer.write(frame[: len(frame) // 2])
                await writer.drain()
                return
            if api == END_TXN and self._hold(frame):
                return
            writer.write(frame)
            await writer.drain()
            if api in _MOMENTS:
                self._release(api, frame)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (frame := await self._frame(reader)) is not None:
            await self._wait()
            if self._cut_answer and len(frame) > 40:
                self._cut_answer -= 1
                self.faults["cut_answer"] += 1
                writer.write(frame[: len(frame) // 2])
                await writer.drain()
                return
            writer.write(frame)
            await writer.drain()

    @staticmethod
    async def _frame(reader: asyncio.StreamReader) -> bytes | None:
        try:
            head = await reader.readexactly(4)
            return head + await reader.readexactly(struct.unpack(">i", head)[0])
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def _wait(self) -> None:
        now = time.monotonic()
        if now < self._delay_until:
            await asyncio.sleep(self._delay_s)
        while (now := time.monotonic()) < self._hole_until:
            await asyncio.sleep(min(0.05, self._hole_until - now))

    # -- what is done to them ------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self.faults["reset"] += 1
        for writer in list(self._writers):
            self._abort(writer)

    @staticmethod
    def _abort(writer: asyncio.StreamWriter) -> None:
        """Close with a reset, as a broken network would."""
        with contextlib.suppress(OSError, AttributeError):
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def _hold(self, frame: bytes) -> bool:
        """Whether this EndTxn is kept back: its connection then ends, and the client repeats it on another one."""
        name = _transactional_id(frame)
        for held in self._held:
            if not held.released and held.name == name:
                held.repeated = True
                return False
        if not self._to_hold:
            return False
        held = _Held(frame, name, self._to_hold.pop(0))
        self._held.append(held)
        self.faults["held_endtxn"] += 1
        self._loop.call_later(2.0, setattr, held, "due", True)  # whatever comes next
        self._loop.call_later(5.0, self._send_late, held)
        return True

    def _release(self, api: int, frame: bytes) -> None:
        """The client goes on, and this may be the moment for the late original."""
        for held in self._held:
            if held.repeated and not held.released and held.name in frame and (held.due or api == held.moment):
                self._loop.call_later(0.003, self._send_late, held)  # let the broker see that one first

    def _send_late(self, held: _Held) -> None:
        if held.released:
            return
        held.released = True
        self.faults["late_endtxn" if held.repeated else "late_without_repetition"] += 1
        task = self._loop.create_task(self._alone(held.frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _alone(self, frame: bytes) -> None:
        """Send one request over a connection of its own; nobody waits for the answer."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(_HOST, self.behind)
            writer.write(frame)
            await writer.drain()
            answer = await self._frame(reader)
            if answer is not None:
                self.faults["late_accepted" if _accepted(frame, answer) else "late_refused"] += 1
            writer.close()


def _accepted(frame: bytes, answer: bytes) -> bool:
    """Whether an EndTxn was answered without an error."""
    (version,) = struct.unpack_from(">h", frame, 6)
    at = 8 + (version >= 3) + 4  # correlation id, the header's tagged fields, throttle time
    return bool(struct.unpack_from(">h", answer, at)[0] == 0)


def _transactional_id(frame: bytes) -> bytes:
    """The transactional id in an EndTxn request, whatever its version."""
    _, version, _, length = struct.unpack_from(">hhih", frame, 4)
    at = 14 + max(0, length)
    if version < 3:
        (length,) = struct.unpack_from(">h", frame, at)
        return frame[at + 2 : at + 2 + length]
    at += 1  # the header's tagged fields: none
    return frame[at + 1 : at + frame[at]]
