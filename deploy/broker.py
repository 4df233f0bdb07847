"""A real Apache Kafka on this machine: one node, loopback only, started in a second and found again by its name.

Every instance has a folder in the user's data folder (or `HEADRACE_DATA_DIR`) with a lock and a record of its process;
the broker outlives whoever started it. What is kept where, and why each setting: `docs/broker.md`.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from headrace.deploy.jars import KAFKA_VERSION, BrokerError, ensure_jars, find_java, java_version, locked

__all__ = ["BrokerError", "Status", "java_version", "start", "status", "stop"]

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)  # below those that outgoing connections get, so that a remembered port stays free
SCRATCH = "headrace-broker-"
START_S = 60.0
STOP_S = 20.0
POLL_S = 0.02
AOT_JAVA = 25  # the first Java that writes a start-up archive in one step

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


@dataclass(frozen=True, slots=True)
class _Record:
    """The process of an instance, as it is written into its folder."""

    pid: int
    identity: str
    port: int
    controller_port: int
    cluster: str
    data_dir: str
    fresh: bool
    java: str
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Software:
    """What a broker process is started from."""

    java: Path
    jars: Sequence[Path]
    archive: Path | None
    template: Path


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
        record = _read(home)
        if record is not None and _alive(record):
            _require_same(instance, record, fresh, data_dir, port, config)
            try:
                _await(record, timeout_s)
                return _describe(instance, record)
            except BrokerError:
                if _alive(record):  # else it was on its way out, killed a moment ago
                    raise
        if record is not None:
            _discard(home, record)
        software = _prepare(progress)
        data = Path(tempfile.mkdtemp(prefix=SCRATCH)) if fresh else (data_dir or home / "data").absolute()
        return _describe(instance, _boot(home, software, data, fresh, port, dict(config or {}), timeout_s))


def stop(*, instance: str = "default", timeout_s: float = STOP_S) -> Status:
    """Return when the instance is down (asked first, killed when the time is up) and fresh data is gone."""
    home = _home(instance)
    with locked(home / "lock"):
        record = _read(home)
        if record is not None:
            _end(record, timeout_s)
            _discard(home, record)
    return status(instance=instance)


def status(*, instance: str = "default") -> Status:
    """Return what is known of the instance, without waiting for anyone; running means that it answers."""
    home = _home(instance)
    record = _read(home)
    if record is not None and _alive(record) and _answers(record):
        return _describe(instance, record)
    if record is None:
        data = home / "data"
        return Status(instance, False, KAFKA_VERSION, data_dir=data if data.is_dir() else None)
    return dataclasses.replace(
        _describe(instance, record), running=False, bootstrap=None, pid=record.pid if _alive(record) else None
    )


def _home(instance: str) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", instance):
        raise ValueError(f"instance must be 1 to 64 letters, digits, '-' or '_', the first no sign; got {instance!r}")
    root = os.environ.get("HEADRACE_DATA_DIR") or platformdirs.user_data_dir("headrace", appauthor=False)
    return Path(root).absolute() / "broker" / instance


def _require_same(
    instance: str,
    record: _Record,
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


# -- the record of the process -------------------------------------------------------------------------------------


def _read(home: Path) -> _Record | None:
    try:
        return _Record(**json.loads((home / "broker.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):  # absent, or of another version of this file
        return None


def _write(path: Path, value: object) -> None:
    """Replace a small JSON file in one step."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    os.replace(part, path)


def _discard(home: Path, record: _Record) -> None:
    """Forget a dead process, and delete its data if they were fresh."""
    data = Path(record.data_dir)
    if record.fresh and data.name.startswith(SCRATCH):
        shutil.rmtree(data, ignore_errors=True)
    (home / "broker.json").unlink(missing_ok=True)


def _describe(instance: str, record: _Record) -> Status:
    data = Path(record.data_dir)
    bootstrap = f"{HOST}:{record.port}"
    return Status(instance, True, KAFKA_VERSION, bootstrap, record.pid, data, record.fresh, _log(data), record.java)


def _log(data: Path) -> Path:
    return data / "logs" / "broker.log"


# -- processes -----------------------------------------------------------------------------------------------------


def _identity(pid: int) -> str | None:
    """Return what tells this process from a later one with the same number; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{fields[19]}"
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    listed = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return " ".join(listed[1:]) if listed and not listed[0].startswith("Z") else None


def _alive(record: _Record) -> bool:
    return _identity(record.pid) == record.identity


def _end(record: _Record, timeout_s: float) -> None:
    """Terminate the process, kill it when the time is up, and wait until it is gone; never touch another one."""
    for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, STOP_S)):
        deadline = time.monotonic() + patience_s
        if _alive(record):
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, number)
        while _alive(record):
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        else:
            return
    raise BrokerError(f"The broker's process {record.pid} does not end; look at what holds it (a full or hung disk?).")


def _answers(record: _Record, timeout_s: float = 2.0) -> bool:
    """Ask for the cluster's metadata by hand: only our own broker, ready for clients, gives the right answer."""
    # Metadata v4, header v1: no client id, no topics, don't create any.
    body = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection((HOST, record.port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as reader:
                answer = reader.read(struct.unpack(">i", reader.read(4))[0])
        return _brokers(answer) > 0 and record.cluster.encode() in answer
    except (OSError, struct.error):
        return False


def _brokers(answer: bytes) -> int:
    """Return how many brokers a Metadata v4 response lists."""
    return int(struct.unpack_from(">iii", answer)[2])


def _await(record: _Record, timeout_s: float) -> None:
    """Return when the broker answers; raise with the end of its log if it dies or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not _answers(record):
        dead = not _alive(record)
        if dead or time.monotonic() > deadline:
            what = "ended while starting" if dead else f"did not answer within {timeout_s:g} s"
            data = Path(record.data_dir)
            raise BrokerError(
                f"The broker {what}; mend what the end of its log names, or stop it and start with fresh data.\n"
                f"{_log(data)}:\n{_tail(data)}"
            )
        time.sleep(POLL_S)


def _tail(data: Path, count: int = 15) -> str:
    lines: list[str] = []
    for path in (_log(data), data / "logs" / "console.log"):
        with contextlib.suppress(FileNotFoundError):
            lines += path.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(line[:300] for line in lines)


# -- one server ----------------------------------------------------------------------------------------------------


def _boot(
    home: Path, software: _Software, data: Path, fresh: bool, port: int | None, config: dict[str, str], timeout_s: float
) -> _Record:
    """Start a server on the data folder and return when it answers.

    1. Format the folder if it is new; choose ports: the given one, else the remembered ones, else free ones.
    2. Start the process and record it, so that whoever comes next finds it whatever happens to us.
    3. Wait for it. On any failure end it; a lost race for a port or a bad start-up archive is tried once more.
    """
    for attempt in (1, 2):
        cluster = _format(software, data)
        ports = _choose_ports(data, port)
        pid = _launch(software, data, ports, config)
        record = _Record(pid, _identity(pid) or "", *ports, cluster, str(data), fresh, str(software.java), config)
        _write(home / "broker.json", dataclasses.asdict(record))
        try:
            _await(record, timeout_s)
            return record
        except BaseException as error:
            _end(record, STOP_S)
            end = _tail(data, 100)
            lost_port = port is None and "Address already in use" in end
            bad_archive = software.archive is not None and re.search("fatal error has been|initialization of VM", end)
            if attempt == 2 or not isinstance(error, BrokerError) or not (lost_port or bad_archive):
                _discard(home, record)
                raise
            (data / "ports.json").unlink()
            if software.archive is not None and bad_archive:
                software.archive.write_bytes(b"")
                software = dataclasses.replace(software, archive=None)
    raise AssertionError("unreachable")


def _format(software: _Software, data: Path) -> str:
    """Make the folder a Kafka log directory unless it is one; return its cluster id."""
    logs = data / "kafka"
    meta = logs / "meta.properties"
    if not meta.exists():
        logs.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(software.template, logs / "bootstrap.checkpoint")
        cluster, directory = _kafka_uuid(), _kafka_uuid()
        part = meta.with_suffix(".part")
        part.write_text(f"version=1\nnode.id=1\ncluster.id={cluster}\ndirectory.id={directory}\n")
        os.replace(part, meta)
    match = re.search(r"^cluster\.id=(\S+)$", meta.read_text(), re.MULTILINE)
    if match is None:
        raise BrokerError(f"{meta} names no cluster; it is not Kafka's data: move the folder away or choose another.")
    return match[1]


def _kafka_uuid() -> str:
    while True:  # as Kafka does: an id that starts with a dash would look like an option
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _choose_ports(data: Path, port: int | None) -> tuple[int, int]:
    """Return the ports for clients and controller, and remember them in the data folder."""
    path = data / "ports.json"
    try:
        remembered, controller = json.loads(path.read_text())
    except (OSError, ValueError):
        remembered, controller = 0, 0
    if port is not None and not _free(port):
        raise BrokerError(f"Port {port} of {HOST} is taken; give another one, or none to have a free one chosen.")
    chosen = port or (remembered if _free(remembered) else _any_port())
    if controller == chosen or not _free(controller):
        controller = _any_port(but=chosen)
    _write(path, [chosen, controller])
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


def _any_port(but: int = 0) -> int:
    for port in random.sample(PORTS, 200):
        if port != but and _free(port):
            return port
    raise BrokerError(f"No free port was found from {PORTS.start} to {PORTS.stop}; give one with port.")


def _launch(
    software: _Software, data: Path, ports: tuple[int, int], config: Mapping[str, str], options: Sequence[str] = ()
) -> int:
    """Start the server in a session of its own, as nobody's child, and return its process id."""
    (data / "logs").mkdir(exist_ok=True)
    (data / "log4j2.properties").write_text(LOGGING)
    properties = data / "server.properties"
    properties.write_text(_properties({**_settings(data, ports), **config}))
    aot = [f"-XX:AOTCache={software.archive}", "-Xlog:aot*=off"] if software.archive else []
    command = [*_java(software, data, *aot, *options), "kafka.Kafka", str(properties)]
    script = '"$@" >"$0" 2>&1 </dev/null & echo $!'
    started = subprocess.run(
        ["/bin/sh", "-c", script, str(data / "logs" / "console.log"), *command],
        stdout=subprocess.PIPE, cwd=data, start_new_session=True, check=True,
    )  # fmt: skip
    return int(started.stdout)


def _java(software: _Software, data: Path, *options: str) -> list[str]:
    classpath = os.pathsep.join(map(str, software.jars))
    logging = (f"-Dlog4j2.configurationFile={data / 'log4j2.properties'}", f"-Dheadrace.log={_log(data)}")
    return [str(software.java), *JVM, *options, *logging, "-Dlog4j2.disableJmx=true", "-cp", classpath]


def _settings(data: Path, ports: tuple[int, int]) -> dict[str, str]:
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


def _properties(settings: Mapping[str, str]) -> str:
    for name, value in settings.items():
        if "\n" in f"{name}{value}":
            raise ValueError(f"a Kafka setting is one line; got {name!r}")
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())


# -- the software, made ready once ---------------------------------------------------------------------------------


def _prepare(progress: bool) -> _Software:
    """Return checked jars, a Java, and (made at the first start) a formatting template and a start-up archive."""
    cache = Path(platformdirs.user_cache_dir("headrace", appauthor=False)).absolute() / f"kafka-{KAFKA_VERSION}"
    java, major = find_java()
    jars = ensure_jars(cache, progress=progress)
    key = hashlib.sha256(repr([_stamp(path) for path in (java, *jars)] + list(JVM)).encode()).hexdigest()[:16]
    archive = cache / f"{key}.aot"
    software = _Software(java, jars, None, cache / "bootstrap.checkpoint")
    with locked(cache / ".lock"):
        if (left := _read(cache)) is not None:  # of a process that was killed while it made the archive
            _end(left, STOP_S)
            _discard(cache, left)
        if not software.template.exists() or (major >= AOT_JAVA and not archive.exists()):
            if progress:
                print(f"Making Kafka {KAFKA_VERSION} start fast (once)", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=cache) as scratch:
                _make_template(software, Path(scratch))
                if major >= AOT_JAVA:
                    _make_archive(software, Path(scratch), archive)
    usable = archive.exists() and archive.stat().st_size > 0
    return dataclasses.replace(software, archive=archive if usable else None)


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


def _make_template(software: _Software, scratch: Path) -> None:
    """Have Kafka's own tool format a folder and keep the part that is the same for every cluster."""
    properties = scratch / "server.properties"
    properties.write_text(_properties(_settings(scratch, (PORTS[0], PORTS[1]))))
    (scratch / "log4j2.properties").write_text(LOGGING)
    tool = ["kafka.tools.StorageTool", "format", "-t", _kafka_uuid(), "-c", str(properties)]
    done = subprocess.run([*_java(software, scratch), *tool], capture_output=True, text=True)
    if done.returncode:
        raise BrokerError(f"Kafka's storage tool failed; see below.\n{(done.stdout + done.stderr)[-2000:]}")
    os.replace(scratch / "kafka" / "bootstrap.checkpoint", software.template)
    shutil.rmtree(scratch / "kafka")


def _make_archive(software: _Software, scratch: Path, archive: Path) -> None:
    """Start and stop a server once, and keep what Java learned; an empty archive means: do without."""
    made = scratch / "server.aot"
    cluster = _format(software, scratch)
    ports = _choose_ports(scratch, None)
    pid = _launch(software, scratch, ports, {}, [f"-XX:AOTCacheOutput={made}"])
    record = _Record(pid, _identity(pid) or "", *ports, cluster, str(scratch), True, str(software.java), {})
    _write(archive.parent / "broker.json", dataclasses.asdict(record))
    try:
        try:
            _await(record, START_S)
        except BrokerError:
            made.write_bytes(b"")
        _end(record, START_S)
    except BaseException:
        # Interrupted. A server that is asked to end first writes its archive, in a process of its own.
        if _alive(record):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        _end(record, STOP_S)
        raise
    (archive.parent / "broker.json").unlink()
    if not made.exists():
        made.write_bytes(b"")
    others = sorted(archive.parent.glob("*.aot"), key=lambda path: path.stat().st_mtime)
    for old in others[:-3]:  # several environments, each with a Java of its own, may share the cache
        old.unlink(missing_ok=True)
    os.replace(made, archive)
