"""A Kafka server on a data folder: its format, its ports, its settings, and the command that starts it."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.deploy.jars import BrokerError
from headrace.deploy.process import HOST, log_of, write

__all__ = [
    "JVM", "LOGGING", "PORTS", "SETTINGS", "Software", "any_port", "as_properties", "choose_ports", "format_folder",
    "java", "kafka_uuid", "launch", "settings",
]  # fmt: skip

PORTS = range(20_000, 32_000)  # below those that outgoing connections get, so that a remembered port stays free

JVM = ("-XX:+UseParallelGC", "-Xms256m", "-Xmx1g", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData")

# Why each of them: docs/broker.md (a test holds the two together).
SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "33554432",
    "log.retention.ms": "-1",
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.retention.minutes": "5256000",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
}

LOGGING = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName=${sys:headrace.log}
appender.file.filePattern=${sys:headrace.log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c)%n
appender.file.policies.type=SizeBasedTriggeringPolicy
appender.file.policies.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
logger.settings.name=org.apache.kafka.common.config.AbstractConfig
logger.settings.level=WARN
rootLogger.level=INFO
rootLogger.appenderRef.file.ref=file
"""


@dataclass(frozen=True, slots=True)
class Software:
    """What a broker process is started from."""

    java: Path
    jars: Sequence[Path]
    archive: Path | None
    template: Path


def format_folder(software: Software, data: Path) -> str:
    """Make the folder a Kafka log directory unless it is one; return its cluster id."""
    logs = data / "kafka"
    meta = logs / "meta.properties"
    if not meta.exists():
        logs.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(software.template, logs / "bootstrap.checkpoint")
        cluster, directory = kafka_uuid(), kafka_uuid()
        part = meta.with_suffix(".part")
        part.write_text(f"version=1\nnode.id=1\ncluster.id={cluster}\ndirectory.id={directory}\n")
        os.replace(part, meta)
    match = re.search(r"^cluster\.id=(\S+)$", meta.read_text(), re.MULTILINE)
    if match is None:
        raise BrokerError(f"{meta} names no cluster; it is not Kafka's data: move the folder away or choose another.")
    return match[1]


def kafka_uuid() -> str:
    """Return a new id, spelled as Kafka does."""
    while True:  # as Kafka does: an id that starts with a dash would look like an option
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def choose_ports(data: Path, port: int | None) -> tuple[int, int]:
    """Return the ports for clients and controller, and remember them in the data folder."""
    path = data / "ports.json"
    try:
        remembered, controller = json.loads(path.read_text())
    except (OSError, ValueError):
        remembered, controller = 0, 0
    if port is not None and not _free(port):
        raise BrokerError(f"Port {port} of {HOST} is taken; give another one, or none to have a free one chosen.")
    chosen = port or (remembered if _free(remembered) else any_port())
    if controller == chosen or not _free(controller):
        controller = any_port(but=chosen)
    write(path, [chosen, controller])
    return chosen, controller


def _free(port: int) -> bool:
    if not 0 < port < 65_536:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: what is in TIME_WAIT owns nothing
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def any_port(but: int = 0) -> int:
    """Return a free port, drawn at random."""
    for port in random.sample(PORTS, 200):
        if port != but and _free(port):
            return port
    raise BrokerError(f"No free port was found from {PORTS.start} to {PORTS.stop}; give one with port.")


def launch(
    software: Software, data: Path, ports: tuple[int, int], config: Mapping[str, str], options: Sequence[str] = ()
) -> int:
    """Start the server in a session of its own, as nobody's child, and return its process id."""
    (data / "logs").mkdir(exist_ok=True)
    (data / "log4j2.properties").write_text(LOGGING)
    properties = data / "server.properties"
    properties.write_text(as_properties({**settings(data, ports), **config}))
    aot = [f"-XX:AOTCache={software.archive}", "-Xlog:aot*=off"] if software.archive else []
    command = [*java(software, data, *aot, *options), "kafka.Kafka", str(properties)]
    script = '"$@" >"$0" 2>&1 </dev/null & echo $!'
    started = subprocess.run(
        ["/bin/sh", "-c", script, str(data / "logs" / "console.log"), *command],
        stdout=subprocess.PIPE, cwd=data, start_new_session=True, check=True,
    )  # fmt: skip
    return int(started.stdout)


def java(software: Software, data: Path, *options: str) -> list[str]:
    """Return the command up to the class to run and its arguments."""
    classpath = os.pathsep.join(map(str, software.jars))
    logging = (f"-Dlog4j2.configurationFile={data / 'log4j2.properties'}", f"-Dheadrace.log={log_of(data)}")
    return [str(software.java), *JVM, *options, *logging, "-Dlog4j2.disableJmx=true", "-cp", classpath]


def settings(data: Path, ports: tuple[int, int]) -> dict[str, str]:
    """Return ours, with those that name the data folder and its ports."""
    client, controller = (f"{HOST}:{port}" for port in ports)
    if "," in str(data):
        raise ValueError(f"Kafka takes no comma in the name of its data folder; got {str(data)!r}")
    return {
        **SETTINGS,
        "listeners": f"PLAINTEXT://{client},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{client}",
        "controller.quorum.voters": f"1@{controller}",
        "log.dirs": str(data / "kafka"),
    }


def as_properties(settings: Mapping[str, str]) -> str:
    """Return the text of a properties file, one setting a line."""
    for name, value in settings.items():
        if "\n" in f"{name}{value}":
            raise ValueError(f"a Kafka setting is one line; got {name!r}")
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())
