"""A real Apache Kafka on this machine: one node, loopback only, started in a second and found again by its name.

Every instance has a folder in the user's data folder (or `HEADRACE_DATA_DIR`) with a lock and a record of its process;
the broker outlives whoever started it. What is kept where, and why each setting: `docs/broker.md`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from headrace.deploy import archive, process, server
from headrace.deploy.jars import KAFKA_VERSION, BrokerError, java_version, locked
from headrace.deploy.process import HOST, SCRATCH, START_S, STOP_S, Record, log_of
from headrace.deploy.server import Software

__all__ = ["BrokerError", "Status", "java_version", "start", "status", "stop"]


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one instance; `bootstrap` only while it runs, `pid` while there is a process."""

    instance: str
    running: bool
    version: str
    bootstrap: str | None = None
    pid: int | None = None
    data_dir: Path | None = None
    fresh: bool = False
    log: Path | None = None
    java: str | None = None


def start(
    *,
    instance: str = "default",
    fresh: bool = False,
    data_dir: Path | None = None,
    port: int | None = None,
    config: Mapping[str, str] | None = None,
    progress: bool = True,
    timeout_s: float = START_S,
) -> Status:
    """Return a broker that answers: the running one of that name, else a new process on the instance's data.

    `fresh` means new, empty data, deleted at `stop`. `config` holds further Kafka settings, which win over ours.
    A running instance that differs from what is asked for is an error, never a silent substitute.
    """
    if fresh and data_dir is not None:
        raise ValueError("fresh data has a folder of its own: give either fresh=True or data_dir, not both")
    home = _home(instance)
    with locked(home / "lock"):
        record = process.read(home)
        if record is not None and process.alive(record):
            _require_same(instance, record, fresh, data_dir, port, config)
            try:
                process.await_answer(record, timeout_s)
                return _describe(instance, record)
            except BrokerError:
                if process.alive(record):  # else it was on its way out, killed a moment ago
                    raise
        if record is not None:
            process.discard(home, record)
        software = archive.prepare(progress)
        data = Path(tempfile.mkdtemp(prefix=SCRATCH)) if fresh else (data_dir or home / "data").absolute()
        return _describe(instance, _boot(home, software, data, fresh, port, dict(config or {}), timeout_s))


def stop(*, instance: str = "default", timeout_s: float = STOP_S) -> Status:
    """Return when the instance is down (asked first, killed when the time is up) and fresh data is gone."""
    home = _home(instance)
    with locked(home / "lock"):
        record = process.read(home)
        if record is not None:
            process.end(record, timeout_s)
            process.discard(home, record)
    return status(instance=instance)


def status(*, instance: str = "default") -> Status:
    """Return what is known of the instance, without waiting for anyone; running means that it answers."""
    home = _home(instance)
    record = process.read(home)
    if record is not None and process.alive(record) and process.answers(record):
        return _describe(instance, record)
    if record is None:
        data = home / "data"
        return Status(instance, False, KAFKA_VERSION, data_dir=data if data.is_dir() else None)
    return dataclasses.replace(
        _describe(instance, record), running=False, bootstrap=None, pid=record.pid if process.alive(record) else None
    )


def _home(instance: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", instance):
        raise ValueError(f"instance must be 1 to 64 letters, digits, '-' or '_', the first no sign; got {instance!r}")
    root = os.environ.get("HEADRACE_DATA_DIR") or platformdirs.user_data_dir("headrace", appauthor=False)
    return Path(root).absolute() / "broker" / instance


def _require_same(
    instance: str,
    record: Record,
    fresh: bool,
    data_dir: Path | None,
    port: int | None,
    config: Mapping[str, str] | None,
) -> None:
    differs = [
        *(["kept data"] if fresh and not record.fresh else []),
        *([f"data in {record.data_dir}"] if data_dir and data_dir.absolute() != Path(record.data_dir) else []),
        *([f"port {record.port}"] if port not in (None, record.port) else []),
        *(["other settings"] if config is not None and dict(config) != record.config else []),
    ]
    if differs:
        raise BrokerError(
            f"The broker {instance!r} already runs, with {' and '.join(differs)}; stop it or use another instance name."
        )


def _describe(instance: str, record: process.Record) -> Status:
    data = Path(record.data_dir)
    bootstrap = f"{HOST}:{record.port}"
    return Status(instance, True, KAFKA_VERSION, bootstrap, record.pid, data, record.fresh, log_of(data), record.java)


def _boot(
    home: Path, software: Software, data: Path, fresh: bool, port: int | None, config: dict[str, str], timeout_s: float
) -> Record:
    """Start a server on the data folder and return when it answers.

    1. Format the folder if it is new; choose ports: the given one, else the remembered ones, else free ones.
    2. Start the process and record it, so that whoever comes next finds it whatever happens to us.
    3. Wait for it. On any failure end it; a lost race for a port or a bad start-up archive is tried once more.
    """
    for attempt in (1, 2):
        cluster = server.format_folder(software, data)
        ports = server.choose_ports(data, port)
        pid = server.launch(software, data, ports, config)
        record = process.recorded(home, pid, ports, cluster, data, software.java, fresh=fresh, config=config)
        try:
            process.await_answer(record, timeout_s)
            return record
        except BaseException as error:
            process.end(record, STOP_S)
            end = process.tail(data, 100)
            lost_port = port is None and "Address already in use" in end
            bad_archive = software.archive is not None and re.search("fatal error has been|initialization of VM", end)
            if attempt == 2 or not isinstance(error, BrokerError) or not (lost_port or bad_archive):
                process.discard(home, record)
                raise
            (data / "ports.json").unlink()
            if software.archive is not None and bad_archive:
                software.archive.write_bytes(b"")
                software = dataclasses.replace(software, archive=None)
    raise AssertionError("unreachable")
