"""Logs of a worker: levelled lines on stderr for people, one JSON object a line for machines, never a secret.

Whatever a line says, values of Kafka properties that may hold a secret are masked in it, and so are PEM blocks and the
secrets that `configure` was told. Kafka clients repeat themselves while a broker is away: their lines are let through a
few at a time, with the number of those left out.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from headrace.streams.masking import masked_text, secrets_of

__all__ = ["LEVELS", "WAITING", "configure"]

WAITING = "headrace.kafka.waiting"
"""The logger of what everybody is told, those without a log too: that a broker is waited for."""
LEVELS = ("debug", "info", "warning", "error")
_VARIES = re.compile(r"\d+")
_BURST, _WINDOW_S = 3, 30.0
_CLIENTS = ("headrace.kafka", "aiokafka", "faust", "mode")


def configure(
    level: str = "info",
    *,
    as_json: bool = False,
    pipeline: str | None = None,
    slot: str | None = None,
    kafka_config: Mapping[str, Any] | None = None,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> logging.Handler:
    """Send the logs of this process to stderr (or `stream`), in place of where they went before.

    Parameters
    ----------
    level
        debug, info, warning or error: of Headrace's own lines. Other libraries' are shown from warning on.
    as_json
        One object a line: time, level, logger, message, pipeline, slot, exception.
    pipeline, slot
        Who is speaking.
    kafka_config
        The properties given to Kafka clients: secret values among them are masked wherever they occur.
    clock
        Seconds, monotonic; for the rate limit of Kafka clients' lines.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}; legal: {', '.join(LEVELS)}")
    secrets = secrets_of(kafka_config or {})
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((_Json if as_json else _Human)(secrets, pipeline, slot))
    handler.addFilter(_Sparse(clock))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("headrace").setLevel(level.upper())
    return handler


class _Masking(logging.Formatter):
    """Knows who speaks, and what must not be said."""

    def __init__(self, secrets: list[str], pipeline: str | None, slot: str | None) -> None:
        super().__init__()
        self._secrets = secrets
        self._who = {name: value for name, value in (("pipeline", pipeline), ("slot", slot)) if value is not None}

    def _exception(self, record: logging.LogRecord) -> str | None:
        if not record.exc_info or record.exc_info[0] is None:
            return None
        return masked_text(self.formatException(record.exc_info), self._secrets)

    def _message(self, record: logging.LogRecord) -> str:
        left_out = getattr(record, "left_out", 0)
        more = f" ({left_out} more like it were left out)" if left_out else ""
        return masked_text(record.getMessage(), self._secrets) + more


class _Human(_Masking):
    """`12:00:00.123Z info    runtime [flights/0]: message`, and a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a line feed in a message continues it, indented, so that no message can look like two."""
        moment = datetime.fromtimestamp(record.created, UTC)
        name = record.name.removeprefix("headrace.")
        who = "/".join(self._who.values())
        line = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}Z {record.levelname.lower():7} {name}"
        message = self._message(record).replace("\n", "\n    ")
        line += f" [{who}]: {message}" if who else f": {message}"
        exception = self._exception(record)
        return line if exception is None else f"{line}\n{exception}"


class _Json(_Masking):
    """One object a line; it has no line feed in it, whatever was logged."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as text."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
            **self._who,
        }
        exception = self._exception(record)
        if exception is not None:
            entry["exception"] = exception
        return json.dumps(entry)


class _Sparse(logging.Filter):
    """Lets through three lines of a client that differ in numbers only, then none until half a minute has passed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """False for one repetition too many; the first line after it is told how many there were."""
        if not record.name.startswith(_CLIENTS):
            return True
        now, kind = self._clock(), _VARIES.sub("#", record.getMessage())
        seen = self._seen.setdefault(kind, [now, 0, 0])
        self._seen.move_to_end(kind)
        if len(self._seen) > 256:
            self._seen.popitem(last=False)
        left_out = 0
        if now - seen[0] >= _WINDOW_S:
            left_out = int(seen[2])
            seen[:] = [now, 0, 0]
        seen[1] += 1
        if seen[1] > _BURST:
            seen[2] += 1
            return False
        if left_out:
            record.left_out = left_out
        return True
