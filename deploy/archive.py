"""What makes Kafka start fast: a formatting template and Java's start-up archive, each made once and kept."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs

from headrace.deploy import process, server
from headrace.deploy.jars import KAFKA_VERSION, BrokerError, ensure_jars, find_java, locked
from headrace.deploy.process import SCRATCH, START_S, STOP_S
from headrace.deploy.server import JVM, LOGGING, PORTS, Software

__all__ = ["make_archive", "prepare"]

AOT_JAVA = 25  # the first Java that writes a start-up archive in one step


def prepare(progress: bool) -> Software:
    """Return checked jars, a Java, and (made at the first start) a formatting template and a start-up archive."""
    cache = Path(platformdirs.user_cache_dir("headrace", appauthor=False)).absolute() / f"kafka-{KAFKA_VERSION}"
    java, major = find_java()
    jars = ensure_jars(cache, progress=progress)
    key = hashlib.sha256(repr([_stamp(path) for path in (java, *jars)] + list(JVM)).encode()).hexdigest()[:16]
    archive = cache / f"{key}.aot"
    software = Software(java, jars, None, cache / "bootstrap.checkpoint")
    with locked(cache / ".lock"):
        if (left := process.read(cache)) is not None:  # of a process that was killed while it made the archive
            process.end(left, STOP_S)
            process.discard(cache, left)
        if not software.template.exists() or (major >= AOT_JAVA and not archive.exists()):
            if progress:
                print(f"Making Kafka {KAFKA_VERSION} start fast (once)", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=cache) as scratch:
                _make_template(software, Path(scratch))
                if major >= AOT_JAVA:
                    make_archive(software, Path(scratch), archive)
    usable = archive.exists() and archive.stat().st_size > 0
    return dataclasses.replace(software, archive=archive if usable else None)


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


def _make_template(software: Software, scratch: Path) -> None:
    """Have Kafka's own tool format a folder and keep the part that is the same for every cluster."""
    properties = scratch / "server.properties"
    properties.write_text(server.as_properties(server.settings(scratch, (PORTS[0], PORTS[1]))))
    (scratch / "log4j2.properties").write_text(LOGGING)
    tool = ["kafka.tools.StorageTool", "format", "-t", server.kafka_uuid(), "-c", str(properties)]
    done = subprocess.run([*server.java(software, scratch), *tool], capture_output=True, text=True)
    if done.returncode:
        raise BrokerError(f"Kafka's storage tool failed; see below.\n{(done.stdout + done.stderr)[-2000:]}")
    os.replace(scratch / "kafka" / "bootstrap.checkpoint", software.template)
    shutil.rmtree(scratch / "kafka")


def make_archive(software: Software, scratch: Path, archive: Path) -> None:
    """Start and stop a server once, and keep what Java learned; an empty archive means: do without."""
    made = scratch / "server.aot"
    cluster = server.format_folder(software, scratch)
    ports = server.choose_ports(scratch, None)
    pid = server.launch(software, scratch, ports, {}, [f"-XX:AOTCacheOutput={made}"])
    record = process.recorded(archive.parent, pid, ports, cluster, scratch, software.java, fresh=True, config={})
    try:
        try:
            process.await_answer(record, START_S)
        except BrokerError:
            made.write_bytes(b"")
        process.end(record, START_S)
    except BaseException:
        # Interrupted. A server that is asked to end first writes its archive, in a process of its own.
        if process.alive(record):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        process.end(record, STOP_S)
        raise
    (archive.parent / "broker.json").unlink()
    if not made.exists():
        made.write_bytes(b"")
    others = sorted(archive.parent.glob("*.aot"), key=lambda path: path.stat().st_mtime)
    for old in others[:-3]:  # several environments, each with a Java of its own, may share the cache
        old.unlink(missing_ok=True)
    os.replace(made, archive)
