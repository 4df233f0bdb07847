"""The local broker for real: started, found, stopped, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from headrace.deploy import broker
from headrace.deploy.broker import BrokerError, Status
from headrace.deploy.process import HOST

START = """
import sys
from headrace.deploy import broker
print(broker.start(instance=sys.argv[1], fresh=True, progress=False).pid)
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an instance that does not exist yet, stopped afterwards whatever happens."""
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path / "headrace"))
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    broker.stop(instance=name)


def admin(status: Status) -> AdminClient:
    """An administration client of the broker; hold on to it until its answers are there."""
    return AdminClient({"bootstrap.servers": status.bootstrap, "log_level": 0})


def create_topic(status: Status, name: str) -> None:
    """Create a topic and wait until it is there."""
    client = admin(status)
    client.create_topics([NewTopic(name, 1, 1)], operation_timeout=60)[name].result(60)


def topics(status: Status) -> set[str]:
    """The topics that the broker has."""
    return set(admin(status).list_topics(timeout=60).topics)


def refuses(port: int) -> bool:
    """Whether nothing listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def test_data_and_port_outlive_stop_and_kill(instance: str):
    """A topic is accepted at once, and is there at the same address after a stop, and after a kill -9."""
    first = broker.start(instance=instance)
    create_topic(first, "t")
    assert broker.status(instance=instance) == first

    stopped = broker.stop(instance=instance)
    assert (stopped.running, stopped.data_dir) == (False, first.data_dir)
    assert refuses(int(first.bootstrap.rpartition(":")[2]))

    second = broker.start(instance=instance)
    assert (second.bootstrap, topics(second) >= {"t"}) == (first.bootstrap, True)

    os.kill(second.pid, signal.SIGKILL)
    third = broker.start(instance=instance)
    assert third.pid != second.pid
    assert (third.bootstrap, topics(third) >= {"t"}) == (first.bootstrap, True)


def test_concurrent_starts_make_one_broker_that_outlives_them(instance: str):
    """Three processes that start the same instance at once get the same broker, which is there when they have ended."""
    command = [sys.executable, "-c", START, instance]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {int(starter.communicate(timeout=300)[0]) for starter in starters}
    found = broker.status(instance=instance)
    assert (found.running, {found.pid}) == (True, pids)
    assert broker.start(instance=instance) == found


def test_fresh_data_end_with_the_broker(instance: str):
    """A fresh broker starts empty, and nothing of it is left after stop."""
    running = broker.start(instance=instance, fresh=True)
    assert running.fresh
    assert topics(running) == set()
    broker.stop(instance=instance)
    assert not running.data_dir.exists()
    assert broker.status(instance=instance) == Status(instance, False, "4.3.0")


def test_instances_are_apart(instance: str, tmp_path: Path):
    """Two instances run beside each other, each with its own topics; data can move to another port."""
    one = broker.start(instance=instance, data_dir=tmp_path / "kept")
    two = broker.start(instance=f"{instance}-2", fresh=True)
    try:
        create_topic(one, "t")
        assert topics(two) == set()
    finally:
        broker.stop(instance=f"{instance}-2")
    broker.stop(instance=instance)
    with socket.create_server((HOST, int(one.bootstrap.rpartition(":")[2]))):
        moved = broker.start(instance=instance, data_dir=tmp_path / "kept")
    assert moved.bootstrap != one.bootstrap
    assert topics(moved) == {"t"}


def test_settings_of_the_caller_win(instance: str):
    """A setting that is handed in is in force, in place of ours too."""
    running = broker.start(
        instance=instance, fresh=True, config={"log.segment.bytes": "1048576", "num.network.threads": "1"}
    )
    resource = ConfigResource(ResourceType.BROKER, "1")
    client = admin(running)
    found = client.describe_configs([resource])[resource].result(60)
    values = {name: found[name].value for name in ("log.segment.bytes", "num.network.threads", "log.retention.ms")}
    assert values == {"log.segment.bytes": "1048576", "num.network.threads": "1", "log.retention.ms": "-1"}


def test_start_that_fails_shows_the_end_of_the_log(instance: str):
    """A setting that Kafka refuses ends in an error with Kafka's own words, and leaves no process and no data."""
    with pytest.raises(BrokerError, match=r"ended while starting; mend .*(?s:.*)log\.segment\.bytes"):
        broker.start(instance=instance, fresh=True, config={"log.segment.bytes": "many"})
    assert broker.status(instance=instance) == Status(instance, False, "4.3.0")
