"""The process of a broker: its record, what tells it from others, whether it answers, and its end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.deploy.jars import BrokerError

__all__ = [
    "HOST", "SCRATCH", "START_S", "STOP_S", "Record", "alive", "answers", "await_answer", "discard", "end", "identity",
    "log_of", "read", "recorded", "tail", "write",
]  # fmt: skip

HOST = "127.0.0.1"
SCRATCH = "headrace-broker-"  # what the names of folders begin with that may be deleted
START_S = 180.0  # after a kill it looks through its logs first
STOP_S = 20.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Record:
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


def recorded(
    home: Path,
    pid: int,
    ports: tuple[int, int],
    cluster: str,
    data: Path,
    java: Path,
    *,
    fresh: bool,
    config: Mapping[str, str],
) -> Record:
    """Record a process that has just been started, so that whoever comes next finds it whatever happens to us."""
    record = Record(pid, identity(pid) or "", *ports, cluster, str(data), fresh, str(java), dict(config))
    write(home / "broker.json", dataclasses.asdict(record))
    return record


def read(home: Path) -> Record | None:
    """Return the record in this folder, None without one."""
    try:
        return Record(**json.loads((home / "broker.json").read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):  # absent, or of another version of this file
        return None


def write(path: Path, value: object) -> None:
    """Replace a small JSON file in one step."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value))
    os.replace(part, path)


def discard(home: Path, record: Record) -> None:
    """Forget a dead process, and delete its data if they were fresh."""
    data = Path(record.data_dir)
    if record.fresh and data.name.startswith(SCRATCH):
        shutil.rmtree(data, ignore_errors=True)
    (home / "broker.json").unlink(missing_ok=True)


def log_of(data: Path) -> Path:
    """Return where the server on this data folder writes its log."""
    return data / "logs" / "broker.log"


def identity(pid: int) -> str | None:
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


def alive(record: Record) -> bool:
    """Whether the recorded process is there, and no later one with its number."""
    return identity(record.pid) == record.identity


def end(record: Record, timeout_s: float) -> None:
    """Terminate the process, kill it when the time is up, and wait until it is gone; never touch another one."""
    for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, STOP_S)):
        deadline = time.monotonic() + patience_s
        if alive(record):
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, number)
        while alive(record):
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        else:
            return
    raise BrokerError(f"The broker's process {record.pid} does not end; look at what holds it (a full or hung disk?).")


def answers(record: Record, timeout_s: float = 2.0) -> bool:
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


def await_answer(record: Record, timeout_s: float) -> None:
    """Return when the broker answers; raise with the end of its log if it dies or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not answers(record):
        dead = not alive(record)
        if dead or time.monotonic() > deadline:
            data = Path(record.data_dir)
            if dead:
                what = "ended while starting; mend what the end of its log names, or stop it and start with fresh data"
            else:
                what = f"did not answer within {timeout_s:g} s; start it again if the end of its log shows it at work"
            raise BrokerError(f"The broker {what}.\n{log_of(data)}:\n{tail(data)}")
        time.sleep(POLL_S)


def tail(data: Path, count: int = 15) -> str:
    """Return the last lines of what the server said, without Java's stacks: what they are of says more."""
    lines: list[str] = []
    for path in (log_of(data), data / "logs" / "console.log"):
        with contextlib.suppress(FileNotFoundError):
            said = path.read_text(errors="replace").splitlines()
            lines += [line for line in said if not line.startswith(("\tat ", "\t... "))][-count:]
    return "\n".join(line[:300] for line in lines)
