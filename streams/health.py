"""A worker's own web server: /metrics, /healthz and /readyz, on loopback unless told otherwise.

It answers from memory and never waits for Kafka or for the worker's loop. What needs the cluster, the lag, is asked by
a thread of its own every few seconds; the same thread watches whether the loop still ticks.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from headrace.streams.errors import HeadraceError, UsageError

__all__ = ["Pulse", "Server", "serve", "unserved"]

log = logging.getLogger("headrace.health")

_TEXT = "text/plain; charset=utf-8"


class Pulse:
    """Whether a worker's loop goes round: it does while `worker.ticks` changes within `stall_s`.

    Parameters
    ----------
    clock
        Seconds, monotonic.

    `away` is why Kafka did not answer when the worker's lag was asked for the last time, or None.
    """

    def __init__(self, worker: Any, stall_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.worker, self.stall_s = worker, stall_s
        self.away: str | None = None
        self._clock = clock
        self._ticks = worker.ticks
        self._since = clock()
        self._lock = threading.Lock()

    def stalled(self) -> str | None:
        """Why the worker is not alive, or None; to be asked at least every few seconds."""
        with self._lock:
            now, ticks = self._clock(), self.worker.ticks
            if ticks != self._ticks:
                self._ticks, self._since = ticks, now
            silent_s = now - self._since
        if silent_s > self.stall_s:
            return f"the loop has not gone round for {silent_s:.0f} s (allowed: {self.stall_s:g} s)"
        return None

    def unready(self) -> str | None:
        """Why the worker does not go on with its partitions, or None."""
        stalled = self.stalled()
        if stalled is not None:
            return stalled
        if self.worker.stopping:
            return "the worker is stopping"
        if not self.worker.ready:
            return "the worker is joining its group or recovering its partitions"
        return self.away


class Server:
    """A running web server. `close` ends it; so does leaving its `with` block."""

    def __init__(self, http: ThreadingHTTPServer, stop: threading.Event, threads: list[threading.Thread]) -> None:
        self._http, self._stop, self._threads = http, stop, threads
        self.host, self.port = str(http.server_address[0]), int(http.server_address[1])

    @property
    def url(self) -> str:
        """Where it answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Free the port and end the threads; requests under way are answered or cut off."""
        self._stop.set()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join(timeout=5)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    host: str,
    port: int,
    worker: Any,
    observer: Any,
    *,
    lag_every_s: float = 5.0,
) -> Server:
    """Serve the figures and the health of `worker` in the background.

    Parameters
    ----------
    host, port
        Where to listen; port 0 chooses a free one. ``127.0.0.1`` unless others are to read it: there is no password.
    worker
        What is watched; it need not have been opened yet. After its `stall_s` without a cycle, /healthz answers 503.
    observer
        The worker's `MetricsObserver`.
    lag_every_s
        Seconds between questions to the cluster for the ends of the inputs. They use a client of their own.

    A port that is taken is a `UsageError`.
    """
    if not 0 <= port <= 65_535:
        raise ValueError(f"port is {port}; legal are 0 (any free one) to 65535")
    observer.watch(worker)
    pulse = Pulse(worker, worker.settings.stall_s)
    http = _listen(host, port, _routes(pulse, observer))
    stop = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(worker, observer, pulse, stop, lag_every_s), name="headrace-watch", daemon=True
    )
    answer = threading.Thread(target=http.serve_forever, args=(0.1,), name="headrace-http", daemon=True)
    server = Server(http, stop, [watch, answer])
    watch.start()
    answer.start()
    log.info("metrics and health: %s", server.url)
    return server


Answer = tuple[int, bytes, str]


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the name service what the address is called."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to report loudly."""
        log.debug("a request from %s failed", client_address, exc_info=True)


def _listen(host: str, port: int, routes: dict[str, Callable[[str], Answer]]) -> ThreadingHTTPServer:
    class Handler(_Handler):
        answers = routes

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        server: ThreadingHTTPServer = type("_Http", (_Http,), {"address_family": family})((host, port), Handler)
        return server
    except OSError as error:
        raise unserved(host, port, error, "--metrics-port") from error


def unserved(host: str, port: int, error: OSError, option: str) -> UsageError:
    """Why nothing can listen there, and what to do: `option` chooses the port, another of its kind the host."""
    remedy = f"choose another {option}, or 0"
    if error.errno not in (errno.EADDRINUSE, errno.EACCES):
        remedy = f"give {option.replace('port', 'host')} an address of this machine"
    return UsageError(f"{host}:{port} cannot be served ({error.strerror or error}): {remedy}.")


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of a few fixed paths; says nothing about what it is made of."""

    answers: dict[str, Callable[[str], Answer]]
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._answer(body=False)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses: plain text; a method that is not served is 405."""
        self.close_connection = True
        code = 405 if code == 501 else code
        self._send((code, b"Only GET and HEAD.\n" if code == 405 else b"Bad request.\n", _TEXT), body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""
        log.debug(format, *args)

    def _answer(self, *, body: bool) -> None:
        route = self.answers.get(self.path.partition("?")[0])
        if route is None:
            self._send((404, b"Here are /metrics, /healthz and /readyz.\n", _TEXT), body=body)
            return
        try:
            answer = route(self.headers.get("Accept", ""))
        except Exception:
            log.exception("answering %s", self.path)
            answer = (500, b"The worker's log says why.\n", _TEXT)
        self._send(answer, body=body)

    def _send(self, answer: Answer, *, body: bool) -> None:
        code, data, content_type = answer
        self.send_response_only(code)
        headers = {
            "Date": self.date_time_string(),
            "Content-Type": content_type,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        if code == 405:
            headers["Allow"] = "GET, HEAD"
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


def _routes(pulse: Pulse, observer: Any) -> dict[str, Callable[[str], Answer]]:
    def metrics(accept: str) -> Answer:
        data, content_type = observer.exposition(accept)
        return 200, data, content_type

    def answered(why_not: Callable[[], str | None]) -> Callable[[str], Answer]:
        def answer(accept: str) -> Answer:
            reason = why_not()
            worker = pulse.worker
            report = {
                "ok": reason is None,
                "reason": reason,
                "worker": worker.id,
                "partitions": sorted(worker.lanes),
                "transactions": worker.progress,
            }
            return 503 if reason else 200, json.dumps(report).encode() + b"\n", "application/json"

        return answer

    return {"/metrics": metrics, "/healthz": answered(pulse.stalled), "/readyz": answered(pulse.unready)}


def _watch(worker: Any, observer: Any, pulse: Pulse, stop: threading.Event, every_s: float) -> None:
    """Take the pulse each second, and the lag now and then; the worker's thread has no part in it."""
    reader: Any = None
    due = time.monotonic()
    warned = False
    while not stop.wait(min(1.0, every_s)):
        reason = pulse.stalled()
        if reason is not None and not warned:
            log.error("%s: %s", worker.id, reason)
        warned = reason is not None
        if time.monotonic() < due:
            continue
        try:
            reader = worker.cluster.reader() if reader is None else reader
            _measure(worker, observer, reader)
            pulse.away = None
        except (HeadraceError, OSError) as error:
            observer.lag_unknown()
            if pulse.away is None:
                log.warning("lag unknown: %s", error)
            pulse.away = str(error)
        except Exception:
            observer.lag_unknown()
            log.exception("lag unknown")
        due = time.monotonic() + every_s
    if reader is not None:
        reader.close()


def _measure(worker: Any, observer: Any, reader: Any) -> None:
    for shard, lane in list(worker.lanes.items()):
        for rank, source in enumerate(lane.task.chain.sources):
            if rank < lane.task.group.leading:  # commands are no lag, and what is left there are our own facts
                continue
            stable = reader.stable(source.topic, shard)
            if lane.end_offsets.get(rank) == stable:  # from the last record on there are only transaction markers
                stable = lane.read_to[rank]
            observer.lag(lane.task, source.topic, max(0, stable - lane.task.positions[rank]))
