"""What the alerts say, bounded: each matter as it stands, who has acknowledged it, what each signal has shown."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import chain, islice
from typing import Any

import msgspec

from headrace.schemas.records import Alert

__all__ = ["Matters"]

_OPEN = 400
_RESOLVED = 200
_ACKNOWLEDGED = 2_000
_SIGNALS = 500
_FINDINGS = 60
_SHOWN = 100


class Matters:
    """The fold of alerts and of people's acknowledgements: open ones first, the oldest resolved are forgotten first."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Alert] = OrderedDict()
        self._resolved: OrderedDict[str, Alert] = OrderedDict()
        self._acknowledged: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._signals: dict[str, dict[str, Any]] = {}
        self.forgotten = 0

    def take(self, alert: Alert) -> None:
        """Take the next record of an alert."""
        name = alert.alert_id
        known = self._open.pop(name, None) or self._resolved.pop(name, None)
        kept, most = (self._resolved, _RESOLVED) if alert.status == "resolved" else (self._open, _OPEN)
        kept[name] = alert
        if len(kept) > most:
            kept.popitem(last=False)
            self.forgotten += 1
        self._signal(alert, known is None)

    def acknowledge(self, alert_id: str, said: dict[str, Any] | None) -> None:
        """Take an acknowledgement (None: it is taken back)."""
        self._acknowledged.pop(alert_id, None)
        if said is not None:
            self._acknowledged[alert_id] = said
            if len(self._acknowledged) > _ACKNOWLEDGED:
                self._acknowledged.popitem(last=False)

    def get(self, alert_id: str) -> Alert | None:
        """The alert as it stands now; None when it is not known."""
        return self._open.get(alert_id) or self._resolved.get(alert_id)

    def view(self) -> dict[str, Any]:
        """The newest alerts as plain values, the open ones first, and how many there are; `full`: or more are open."""
        newest = islice(chain(reversed(self._open.values()), reversed(self._resolved.values())), _SHOWN)
        return {
            "alerts": [self._row(alert) for alert in newest],
            "open": len(self._open),
            "full": len(self._open) >= _OPEN,
            "resolved": len(self._resolved),
            "waiting": sum(name not in self._acknowledged for name in self._open),
            "forgotten": self.forgotten,
        }

    def signals(self) -> dict[str, dict[str, Any]]:
        """By signal: alerts so far, how many are open, and the last findings, the oldest first."""
        now: dict[str, int] = {}
        for alert in self._open.values():
            now[alert.signal] = now.get(alert.signal, 0) + 1
        return {
            name: {**found, "findings": list(found["findings"]), "open": now.get(name, 0)}
            for name, found in self._signals.items()
        }

    def _row(self, alert: Alert) -> dict[str, Any]:
        row: dict[str, Any] = msgspec.to_builtins(alert)
        row["acknowledged"] = self._acknowledged.get(alert.alert_id)
        return row

    def _signal(self, alert: Alert, new: bool) -> None:
        found = self._signals.get(alert.signal)
        if found is None:
            if len(self._signals) >= _SIGNALS:
                return
            found = {"alerts": 0, "last_ms": None, "message": "", "findings": deque(maxlen=_FINDINGS)}
            self._signals[alert.signal] = found
        found["alerts"] += new
        found["last_ms"], found["message"] = alert.time_ms, alert.message
        found["findings"].append([alert.time_ms, alert.strength, alert.status])
