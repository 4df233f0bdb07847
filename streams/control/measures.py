"""What the evaluations say over time, bounded: one series for each model and window, and how segments stand now."""

from __future__ import annotations

from typing import Any

from headrace.schemas.records import Evaluation

__all__ = ["Measures", "Series"]

_POINTS = 240
_SERIES = 64
_LATEST = 500


class Series:
    """Points of one model in one window, in order; when there are too many, every other one is left out.

    So it always spans everything, in at least `most` / 2 steps of one width, and ends with the newest point. Numbers
    that begin anew (after a reset) begin the series anew.

    >>> series = Series(most=4)
    >>> for n in range(1, 8):
    ...     series.add(n, 10 * n, {"Accuracy": n / 10})
    >>> series.view()["n"]
    [1, 3, 5, 7]
    """

    def __init__(self, most: int = _POINTS) -> None:
        self.most = most
        self._clear()

    def _clear(self) -> None:
        self._points: list[tuple[int, int, dict[str, float | None]]] = []
        self._newest: tuple[int, int, dict[str, float | None]] | None = None
        self._step, self._seen = 1, 0

    def add(self, n: int, time_ms: int, metrics: dict[str, float | None]) -> None:
        """Take the next point: `n` is the running number of its last example."""
        if self._newest is not None and n < self._newest[0]:
            self._clear()
        self._newest = (n, time_ms, {name: _short(value) for name, value in metrics.items()})
        if self._seen % self._step == 0:
            self._points.append(self._newest)
            if len(self._points) > self.most:
                self._points, self._step = self._points[::2], 2 * self._step
        self._seen += 1

    def view(self) -> dict[str, Any]:
        """The points in columns: `n`, `time_ms`, and one column for each metric."""
        points = list(self._points)
        if self._newest is not None and points[-1] is not self._newest:
            points.append(self._newest)
        names = list(dict.fromkeys(name for point in points for name in point[2]))
        return {
            "n": [point[0] for point in points],
            "time_ms": [point[1] for point in points],
            "metrics": {name: [point[2].get(name) for point in points] for name in names},
        }


class Measures:
    """The fold of evaluations."""

    def __init__(self) -> None:
        self._series: dict[tuple[int, str, str], Series] = {}
        self._roles: dict[tuple[int, str, str], tuple[str, str]] = {}
        self._latest: dict[tuple[int, str, str, str | None], Evaluation] = {}
        self.left_out = 0

    def take(self, record: Evaluation) -> None:
        """Take the next record; what would be a series or segment too many is counted, and left out."""
        if record.segment is None and not record.window.startswith("proxy"):
            # Roles change while a window's name stays: the series is the model's.
            kind = "window" if record.window.startswith("last-") else record.window
            key = (record.shard, record.model, kind)
            if key not in self._series and len(self._series) >= _SERIES:
                self.left_out += 1
                return
            self._series.setdefault(key, Series()).add(record.last_n, record.last_time_ms, record.metrics)
            self._roles[key] = (record.role, record.window)
            return
        latest = (record.shard, record.model, record.window, record.segment)
        if latest not in self._latest and len(self._latest) >= _LATEST:
            self.left_out += 1
            return
        self._latest[latest] = record

    def view(self) -> dict[str, Any]:
        """Series and segments, as plain values."""
        series = [
            {"shard": shard, "model": model, "kind": kind, "role": role, "window": window, **found.view()}
            for (shard, model, kind), found in self._series.items()
            for role, window in [self._roles[shard, model, kind]]
        ]
        segments = [
            {"shard": r.shard, "model": r.model, "role": r.role, "segment": r.segment, "n": r.n, "metrics": r.metrics}
            for r in self._latest.values()
            if r.window == "overall"
        ]
        return {"series": series, "segments": segments, "left_out": self.left_out}

    def features(self) -> dict[str, dict[str, float | None]]:
        """By feature: how its values look in the last window of predictions, where the pipeline declares proxies."""
        return {
            record.segment.removeprefix("feature="): record.metrics
            for record in self._latest.values()
            if record.segment is not None and record.segment.startswith("feature=")
        }


def _short(value: float | None) -> float | None:
    """Six digits are more than a chart can show."""
    return None if value is None else float(f"{value:.6g}")
