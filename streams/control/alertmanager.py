"""Alerts in Prometheus' Alertmanager, by its API v2: posted as they open and change, again while they are open, ended.

Alertmanager forgets what is not repeated, so every open alert is posted again each minute; one whose control plane is
gone resolves there by itself after ten. What is posted is always the alert as it stands now, which is a fold of the
topic: a record that comes again changes nothing, and people are not told twice. Reference:
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from headrace.schemas.records import Alert
from headrace.streams.control.agents import Incoming
from headrace.streams.control.outside import Failed, Outside, Target
from headrace.streams.control.routes import Notice, answered
from headrace.streams.errors import UNREADABLE
from headrace.streams.status.moments import moment

__all__ = ["Alertmanager", "Matter", "Standing", "labels_of"]

_alert = msgspec.json.Decoder(Alert).decode
_AT_ONCE = 200
_KEPT = 10_000
_LAST_S = 253_402_300_799.0  # the end of the year 9999
_HOLD = 10
"""After so many repetitions that did not come, an alert resolves."""


@dataclass(slots=True)
class Matter:
    """An alert as it stands: its last record, and Kafka's times of the first one and of the last."""

    alert: Alert
    began_ms: int
    last_ms: int

    @property
    def open(self) -> bool:
        """Whether it is not resolved."""
        return self.alert.status != "resolved"


class Standing:
    """Every alert as it stands now: a fold of the alerts topic, each record once; the oldest are forgotten.

    Of each partition the last offset and the latest time are known. Times may step back, but what is read again is no
    later than that: a record at a known offset that is comes from a topic that was made anew, and all begins anew.

    One thread takes records at a time; others may ask meanwhile what is open.
    """

    def __init__(self) -> None:
        self.matters: dict[str, Matter] = {}
        self._places: dict[tuple[str, int], tuple[int, int]] = {}

    def read(self, record: Incoming) -> None:
        """Take a record as it lies in the topic; what is no alert is passed over."""
        try:
            alert = _alert(record.value or b"")
        except UNREADABLE:
            return
        self.take(alert, record)

    def take(self, alert: Alert, record: Incoming) -> None:
        """Take a record, unless it was taken before."""
        place = (record.topic, record.partition)
        offset, latest_ms = self._places.get(place, (-1, record.time_ms))
        if record.offset <= offset:
            if record.time_ms <= latest_ms:
                return
            self.matters.clear()
            self._places.clear()
        self._places[place] = record.offset, max(record.time_ms, latest_ms)
        known = self.matters.pop(alert.alert_id, None)
        began_ms = record.time_ms if known is None or not known.open else known.began_ms
        self.matters[alert.alert_id] = Matter(alert, began_ms, record.time_ms)
        if len(self.matters) > _KEPT:
            self._forget()

    def open(self) -> list[Matter]:
        """Those that are not resolved, the one that changed first in front."""
        return [matter for matter in list(self.matters.values()) if matter.open]

    def _forget(self) -> None:
        """Forget the oldest resolved one, or else the oldest."""
        oldest = next((name for name, matter in self.matters.items() if not matter.open), next(iter(self.matters)))
        del self.matters[oldest]


class Alertmanager:
    """The route to one Alertmanager.

    Parameters
    ----------
    target
        Its base address, or the address of its alerts.
    outside, standing
        How to get there, and how every alert stands.
    every_s
        How often the open alerts are posted again.
    wall
        Seconds since 1970.
    """

    def __init__(
        self,
        pipeline: str,
        target: Target,
        outside: Outside,
        standing: Standing,
        *,
        every_s: float = 60.0,
        wall: Callable[[], float] = time.time,
        number: int = 1,
    ) -> None:
        url = target.url
        if not url.path.endswith("/alerts"):
            url = url.joinpath("api", "v2", "alerts")
        self.name = f"alertmanager-{number} {target.name}"
        self._target = Target(url, target.name, target.token)
        self._pipeline, self._outside, self._standing = pipeline, outside, standing
        self._every_s, self._wall = every_s, wall
        self._posted: dict[str, dict[str, str]] = {}
        self._one = asyncio.Lock()

    async def deliver(self, notice: Notice) -> None:
        """Post the alert that the record is about, as it stands now."""
        await self._post([notice.alert.alert_id])

    async def repeat(self, attempted: Callable[[str], None]) -> None:
        """Post all open alerts again and again, until cancelled; what fails comes with the next time.

        `attempted` is told why a time failed, or "" where it did not; where nothing is open nothing is attempted.
        """
        while True:
            await asyncio.sleep(self._every_s)
            found = [matter.alert.alert_id for matter in self._standing.open()]
            try:
                for start in range(0, len(found), _AT_ONCE):
                    await self._post(found[start : start + _AT_ONCE])
            except Failed as failed:
                attempted(str(failed))
            else:
                if found:
                    attempted("")

    async def _post(self, alerts: Sequence[str]) -> None:
        """One post after the other: of two at once, the one that says "open" might come behind the one of the end."""
        async with self._one:
            known = (self._standing.matters.get(name) for name in alerts)
            matters = [matter for matter in known if matter is not None]
            if not matters:
                return
            body = [entry for matter in matters for entry in self._entries(matter)]
            answered(await self._outside.post(self._target, msgspec.json.encode(body)))
            for matter in matters:
                if matter.open:
                    self._posted[matter.alert.alert_id] = labels_of(self._pipeline, matter.alert)
                else:
                    self._posted.pop(matter.alert.alert_id, None)

    def _entries(self, matter: Matter) -> list[dict[str, Any]]:
        """The alert, and its end under the labels that it had when its severity was another."""
        labels, now_s = labels_of(self._pipeline, matter.alert), self._wall()
        ends_s = now_s + _HOLD * self._every_s if matter.open else max(matter.last_ms, matter.began_ms) / 1000
        entry = {
            "labels": labels,
            "annotations": _annotations(matter.alert),
            "startsAt": _moment(matter.began_ms / 1000),
            "endsAt": _moment(ends_s),
        }
        before = self._posted.get(matter.alert.alert_id, labels)
        if before == labels:
            return [entry]
        return [entry, entry | {"labels": before, "endsAt": _moment(matter.last_ms / 1000)}]


def labels_of(pipeline: str, alert: Alert) -> dict[str, str]:
    """What an alert is known by in Alertmanager."""
    return {
        "alertname": "Headrace" + "".join(part.capitalize() for part in alert.kind.split("_")),
        "alert_id": alert.alert_id,
        "partition": str(alert.partition),
        "pipeline": pipeline,
        "severity": alert.severity,
        "signal": alert.signal,
    }


def _annotations(alert: Alert) -> dict[str, str]:
    return {
        "summary": alert.message,
        "detector": alert.detector,
        "evidence": f"{alert.topic}/{alert.partition} offsets {alert.first_offset} to {alert.last_offset}",
        "findings": str(alert.findings),
        "strength": f"{alert.strength:.3g}",
        "examples": ", ".join(map(str, alert.examples)),
    }


def _moment(seconds: float) -> str:
    """As Alertmanager reads it: a time that no calendar has is the nearest that it takes."""
    return moment(1000 * min(max(seconds, 0.0), _LAST_S))
