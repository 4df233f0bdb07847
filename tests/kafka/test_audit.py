"""Audit of a system that goes on working meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.faults.harness import World, flight_records

FLIGHTS = 3000


def test_audit_of_a_live_system_finds_no_difference(make_world: Callable[..., World]) -> None:
    """What is committed while an audit reads is neither missed nor taken for a difference."""
    world = make_world(settings={"batch": 50, "checkpoint_s": 0.5})
    events, labels = flight_records(FLIGHTS)
    world.publish(events[:500], labels[:300])
    world.spawn().await_note("committed")
    done = threading.Event()

    def go_on() -> None:
        for i in range(500, FLIGHTS, 25):
            world.publish(events[i : i + 25], labels[i - 200 : i - 175])
            if done.wait(0.2):
                return

    publisher = threading.Thread(target=go_on)
    publisher.start()
    try:
        audits = [world.audit()[0] for _ in range(2)]
        still_live = publisher.is_alive()
    finally:
        done.set()
        publisher.join()
    assert [found.first for found in audits] == [[], []]
    assert still_live
    assert 0 < audits[0].compared < audits[1].compared
