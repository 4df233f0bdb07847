"""Virtual time: it moves when the scheduler says so, and never by itself."""

from __future__ import annotations

__all__ = ["START_MS", "Clock"]

START_MS = 1_700_000_000_000


class Clock:
    """Seconds since the simulation began; called, it is what a worker takes for its monotonic clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as the brokers stamp records with."""
        return START_MS + int(self.now * 1000)
