"""What the dead letters say, bounded: how many by reason, where the first and last are, and the newest few."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from headrace.schemas.records import REASONS

__all__ = ["Letters"]

_KINDS = 200
_SAMPLES = 5
_SHOWN = 600
_TEXT = 300


class Letters:
    """The fold of dead letters by topic, stage and reason; what nobody knows the kind of is counted as ``other``."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.n = 0

    def take(
        self,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]],
        timestamp_ms: int,
    ) -> None:
        """Take the next one; its bytes become text of bounded length, and stay data."""
        said = {name: _text(raw or b"", _TEXT) for name, raw in headers}  # Kafka allows a header without a value
        kind = (said.get("topic", "?"), said.get("stage", "?"), said.get("reason", "?"))
        if kind not in self._kinds and len(self._kinds) >= _KINDS:
            kind = ("?", "?", "other")
        place = f"{partition}:{offset}"
        found = self._kinds.setdefault(kind, {"n": 0, "first": place, "samples": deque(maxlen=_SAMPLES)})
        found["n"] += 1
        found["last"], found["last_ms"] = place, timestamp_ms
        self.n += 1
        found["samples"].append(
            {
                "place": place,
                "source": "/".join(said.get(name, "?") for name in ("topic", "partition", "offset")),
                "detail": said.get("detail", ""),
                "at_ms": timestamp_ms,
                "key": None if key is None else _text(key, _TEXT),
                "value": None if value is None else _text(value, _SHOWN),
                "bytes": len(value or b""),
            }
        )

    def view(self) -> dict[str, Any]:
        """By kind, the most frequent first, as plain values; samples newest first."""
        rows = [
            {
                "topic": topic,
                "stage": stage,
                "reason": reason,
                "means": REASONS.get(reason, ""),
                **found,
                "samples": list(reversed(found["samples"])),
            }
            for (topic, stage, reason), found in self._kinds.items()
        ]
        return {"n": self.n, "kinds": sorted(rows, key=lambda row: (-row["n"], row["reason"], row["topic"]))}


def _text(raw: bytes, limit: int) -> str:
    """Bytes that anybody may have sent, as text: what is not UTF-8 or not printable is escaped, what is long is cut."""
    text = raw[:limit].decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return shown if len(raw) <= limit else f"{shown}…"
