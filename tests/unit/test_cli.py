"""The command line without a broker: what is printed, where, and with which exit code."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from headrace.deploy import broker
from headrace.deploy.broker import BrokerError, Status
from headrace.examples.flights_data import flights as first_flights
from headrace.processors.registry import fresh
from headrace.schemas.records import Fact
from headrace.streams import cli
from headrace.streams.commands import models, options, output, run, tail, versions
from headrace.streams.commands.publish import Publisher, check_keys, interleaved, warn_of_a_worker
from headrace.streams.commands.topics import require
from headrace.streams.data import Outgoing
from headrace.streams.errors import Aborted, Diverged, Expelled, HeadraceError, TopicError, UsageError
from headrace.streams.log import Record
from headrace.streams.logs import WAITING
from headrace.streams.models.keys import KEY_VARIABLE, KeyFileError, signing_key
from headrace.streams.models.registry import Shard
from headrace.streams.reading import last
from headrace.streams.runtime import Worker
from headrace.streams.status import moments
from headrace.streams.topics import topic_specs
from headrace.streams.topology import STAGES, group_of, groups
from headrace.streams.worker.watchdog import STALLED, Watchdog, stop_on_signals
from tests.small import small

PIPELINE = "headrace.examples.flights:flights"


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No local broker is found, and no variable names one."""
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path / "data"))
    for name in [
        name for name in os.environ if name.startswith(("HEADRACE_BOOTSTRAP", "HEADRACE_KAFKA", "HEADRACE_DEBUG"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONHASHSEED", "0")


def headrace(*args: str, **options: Any) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli.main, args, prog_name="headrace", **options)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `headrace broker status` raise this error."""

    def status(**_: Any) -> Status:
        raise error

    monkeypatch.setattr(broker, "status", status)


# -- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["models", PIPELINE, "promote", "hat"],
        ["models", "promote", PIPELINE, "hat"],
        ["dead-letter", "list", PIPELINE],
        ["dead-letter", PIPELINE, "list"],
        ["alerts", PIPELINE, "show", "4a1d"],
        ["alerts", "show", PIPELINE, "4a1d"],
    ],
)
def test_a_pipeline_may_come_before_or_after_the_command(args: list[str]):
    """Whichever of the two orders a command has: it gets as far as to ask for Kafka."""
    assert "No Kafka broker is named and no local one runs" in headrace(*args).stderr


@pytest.mark.parametrize("args", [["promote"], ["nowhere.py:flights", "promote"], ["promote", PIPELINE, "hat"]])
def test_the_help_of_a_command_needs_no_pipeline(args: list[str]):
    """None, one that is not there, or one in the other order."""
    assert headrace("models", *args, "--help").stdout.startswith("Usage: headrace models PIPELINE promote [OPTIONS] M")


@pytest.mark.parametrize("group", ["models", "keys", "broker", "dead-letter"])
def test_what_a_command_does_is_not_cut_off(group: str):
    """The list of a group's commands has a whole sentence of each."""
    assert "..." not in headrace(group, "--help").stdout.partition("Commands:")[2]


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["stauts", PIPELINE], "No such command 'stauts': is it status?"),
        (["models", PIPELINE, "promot"], "No such command 'promot': is it promote?"),
        (["keys", "xyzzy"], "No such command 'xyzzy'; legal: new, show, trust."),
        (["models", "promote", "hat"], "The PIPELINE comes before the command: `headrace models PIPELINE promote`."),
        (["dead-letter", PIPELINE, "lst"], "the command comes before the PIPELINE, one of list, retry, show."),
        (["tail", PIPELINE], "Missing argument 'ROLE'. Choose from: events, labels, features,"),
        (["demo", "--events", "many"], "'many' is no whole number."),
        (["run", PIPELINE, "--slot", ""], "a slot has letters, digits, '.', '_' and '-', at most 60; got ''"),
        (["--nonsense"], "No such option"),
        (["run"], "Missing argument 'PIPELINE'"),
        (["check", "nowhere.py:flights"], "There is no file nowhere.py"),
        (["check", "nowhere_at_all:flights"], "There is no module nowhere_at_all"),
        (["check", "headrace.examples.flights:other"], "its pipelines: flights"),
        (["run", PIPELINE, "--stages", "guess"], "No stage is called guess"),
        (["run", PIPELINE, "--stages", "validate,train"], "cut the chain at a bar only"),
        (["run", PIPELINE, "--checkpoint", "soon"], "--checkpoint"),
        (["run", PIPELINE, "--batch", "0"], "--batch"),
        (["run", PIPELINE], "No Kafka broker is named and no local one runs"),
        (["--kafka-config", "/nowhere", "topics", PIPELINE], "There is no file /nowhere"),
        (["topics", PIPELINE, "--kafka-config", "/nowhere"], "There is no file /nowhere"),
        (["backtest", PIPELINE, "flights.xls"], "flights.xls is not a kind of file that can be read"),
        (["backtest", PIPELINE, "nowhere.csv"], "There is no file nowhere.csv"),
        (["broker", "status", "--instance", "../x"], "--instance: instance must be"),
        (["tail", PIPELINE, "guesses"], "'guesses' is not one of"),
        (["status", PIPELINE, "--watch", "--json", "out.json"], "to standard output only: --watch --json > out.json."),
        (["control", PIPELINE, "--token-file", os.devnull], "(--token-file) is empty"),
        (["dead-letter", "retry", PIPELINE, "x"], "no OFFSET or PARTITION:OFFSET"),
        (["dead-letter", "retry", PIPELINE, "\u00b2"], "no OFFSET or PARTITION:OFFSET"),
        (["dead-letter", "retry", PIPELINE, "1:" + "9" * 20], "no OFFSET or PARTITION:OFFSET"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_sentence_and_exit_2(args: list[str], said: str):
    """Nothing on stdout, one line on stderr that names what is wrong, never a traceback."""
    result = headrace(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_token_of_webhooks_goes_to_one_host(monkeypatch: pytest.MonkeyPatch):
    """Who receives it could use it at the others."""
    monkeypatch.setenv("HEADRACE_WEBHOOK_TOKEN", "a-word")
    urls = ("--webhook", "https://a.example/x", "--webhook", "https://b.example/y")
    result = headrace("control", PIPELINE, *urls)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "HEADRACE_WEBHOOK_TOKEN would go to several hosts" in result.stderr
    assert "a-word" not in result.stderr


@pytest.mark.parametrize("policy", [["--approve"], ["--retrain", "logreg=0 3 * * 1"]], ids=lambda policy: policy[0])
def test_policies_need_an_operator_s_key(policy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All that they decide would be refused, and a proposal that was answered so would be approved by nobody."""
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "signing.pem"))
    for name, key in (("guarded", "0a" * 32), ("ours", signing_key().verify_key.raw.hex())):
        declared = f"import copy\nfrom headrace.examples.flights import flights\n{name} = copy.copy(flights)\n"
        (tmp_path / f"{name}.py").write_text(f"{declared}{name}.operators = ({key!r},)\n")
    result = headrace("control", f"{tmp_path}/guarded.py:guarded", *policy)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "obeys its operators alone" in result.stderr
    assert "No Kafka broker is named" in headrace("control", f"{tmp_path}/ours.py:ours", *policy).stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HeadraceError("it failed"), 1),
        (TopicError("it is missing"), 2),
        (Diverged("other bytes"), 2),
        (BrokerError("no jars"), 2),
        (KeyFileError("no key"), 2),
        (OSError(errno.EIO, "Input/output error"), 70),
        (ZeroDivisionError("of ours"), 70),
        (SystemExit("of the author"), 2),
        (SystemExit(), 2),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
    ],
)
def test_an_error_ends_with_its_code(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int):
    """Our own errors carry their code, whatever else happens has one too, and the message is on stderr."""
    failing(monkeypatch, error)
    result = headrace("broker", "status")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.strip()
    assert str(error) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["keys", "show"], ["broker", "status"]])
def test_a_user_without_a_home_is_no_error_of_our_own(monkeypatch: pytest.MonkeyPatch, command: list[str]):
    """A container's user has none, and no entry among the system's users: supervisors start again what ends with 70."""
    for name in ("HOME", "HEADRACE_DATA_DIR", "HEADRACE_SIGNING_KEY", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    result = headrace(*command)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("Error: This user has no home directory: set HOME")


@pytest.mark.parametrize(("place", "named"), [("/full", "/full"), (None, "The output")])
def test_a_full_disk_is_no_error_of_our_own(monkeypatch: pytest.MonkeyPatch, place: str | None, named: str):
    """Standard output on one, or the folder of the broker, ended with 70."""
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device", place))
    result = headrace("broker", "status")
    assert (result.exit_code, result.stderr) == (2, f"Error: {named} cannot be used: No space left on device.\n")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch):
    """With --debug the exception comes through."""
    failing(monkeypatch, TopicError("it is missing"))
    with pytest.raises(TopicError):
        headrace("--debug", "broker", "status", catch_exceptions=False)


def test_a_secret_in_a_message_is_hidden(monkeypatch: pytest.MonkeyPatch):
    """What a client says of its configuration is shown without the password."""

    def refuse(self: Any) -> None:
        raise TopicError("refused: hunter2")

    monkeypatch.setattr("headrace.streams.kafka.Cluster.check", refuse)
    environ = {"HEADRACE_KAFKA_SASL_PASSWORD": "hunter2", "HEADRACE_BOOTSTRAP": "127.0.0.1:1"}
    result = headrace("topics", PIPELINE, env=environ)
    assert "refused: ***" in result.stderr
    assert "hunter2" not in result.output


def test_no_broker_at_the_address_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    """An address where nobody listens is named, with why, and what to do."""
    monkeypatch.setattr("headrace.streams.kafka.Cluster.check.__defaults__", (0.3,))
    result = headrace("--bootstrap", "127.0.0.1:1", "topics", PIPELINE)
    assert result.exit_code == 1
    assert "No Kafka broker answers at 127.0.0.1:1" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_broker_that_takes_its_time_is_said_to_be_waited_for(monkeypatch: pytest.MonkeyPatch):
    """Ten seconds without a word look like a command that hangs."""

    class AtOnce(threading.Timer):
        def start(self) -> None:
            self.function(*self.args)

    monkeypatch.setattr(threading, "Timer", AtOnce)
    monkeypatch.setattr("headrace.streams.kafka.Cluster.check.__defaults__", (0.3,))
    result = headrace("--bootstrap", "127.0.0.1:1", "topics", PIPELINE)
    assert result.stderr.startswith("Waiting for Kafka at 127.0.0.1:1.\nError: No Kafka broker answers at 127.0.0.1:1")


@pytest.mark.parametrize("args", [["check", PIPELINE], ["check", PIPELINE, "--json"], ["--help"]], ids=" ".join)
def test_a_reader_that_goes_away_is_no_error(args: list[str]):
    """`headrace check P | head -1` ends without a word on stderr, and not with one about a pipeline's `sys.exit`."""
    unread, out = os.pipe()
    os.close(unread)
    done = subprocess.run([sys.executable, "-m", "headrace", *args], stdout=out, stderr=subprocess.PIPE, timeout=300)
    os.close(out)
    assert (done.returncode, done.stderr) == (1, b"")


# -- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("json_args", [["--json"], ["--json", "-"], ["--json=-"]], ids=" ".join)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_json_goes_to_stdout_alone(json_args: list[str], before: bool):
    """In each of its forms, before or after the pipeline, stdout holds one JSON object and nothing else."""
    args = [*json_args, PIPELINE] if before else [PIPELINE, *json_args]
    result = headrace("check", *args)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["champion"] == "logreg"


def test_json_to_a_file_leaves_the_tables(tmp_path: Path):
    """--json FILE writes the object there, and the tables are printed as without."""
    file = tmp_path / "out.json"
    result = headrace("check", PIPELINE, "--json", str(file))
    assert json.loads(file.read_text())["name"] == "flights"
    assert "carrier_late_3h" in result.stdout


def test_json_to_a_place_that_is_none_is_wrong_use(tmp_path: Path):
    """A file that cannot be written is one sentence."""
    result = headrace("check", PIPELINE, "--json", str(tmp_path / "no" / "out.json"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_tables_are_plain_when_piped():
    """No colours, no bars, no shortened or wrapped cells."""
    result = headrace("backtest", PIPELINE, "--limit", "300")
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.output
    assert "features = predictions + refused by the champion" in result.stdout
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows if row[1:2] in (["model"], ["baseline"])] == [
        ["logreg", "model"],
        ["hat", "model"],
        ["no-change", "baseline"],
        ["prior", "baseline"],
    ]
    assert result.stderr == ""


def test_backtest_reports_counts_laws_and_metrics(tmp_path: Path):
    """The JSON has the summary's keys, and --output the published records as Parquet."""
    result = headrace("backtest", PIPELINE, "--limit", "300", "--json", "-", "--output", str(tmp_path / "out"))
    value = json.loads(result.stdout)
    assert (value["events"], set(value["models"]), set(value["baselines"])) == (
        300,
        {"logreg", "hat"},
        {"no-change", "prior"},
    )
    assert all(value["laws"].values())
    frames = {file.stem: pd.read_parquet(file) for file in (tmp_path / "out").iterdir()}
    assert {name: len(frame) for name, frame in frames.items()} == {
        "predictions": 300,
        "features": 300,
        "examples": value["labelled"],
    }
    assert frames["predictions"]["columns.origin"].isin(["EWR", "JFK", "LGA"]).all()


def test_backtest_says_why_records_were_refused(tmp_path: Path):
    """An error of the author's own code is in the table of what was refused, by reason, with the first one's detail."""
    (tmp_path / "visits.py").write_text(
        "from tests.small import small\n\n"
        "def oops(visit) -> float:\n    return visit.nowhere\n\n"
        "visits = small(features={'oops': oops})\n"
    )
    (tmp_path / "visits.csv").write_text("id,shop,at,spent\na,x,1000,2.5\nb,x,2000,2.5\nc,,3000,1.0\n")
    args = ("backtest", f"{tmp_path}/visits.py:visits", f"{tmp_path}/visits.csv")
    refused = json.loads(headrace(*args, "--json").stdout)["refused"]
    assert [(row["stage"], row["reason"], row["n"]) for row in refused] == [
        ("featurize", "feature_error", 2),
        ("validate", "wrong_type", 1),
    ]
    assert "nowhere" in refused[0]["detail"]
    assert refused[0]["detail"] in headrace(*args).stdout


def test_backtest_says_of_each_model_what_it_failed_on(tmp_path: Path):
    """Its metrics are of the other events only: how many it did not answer is counted, and what it did not learn."""
    (tmp_path / "visits.py").write_text(
        "from headrace import field\nfrom tests.small import Scripted, small\n\n"
        "visits = small(features={'spent': field('spent')}, champion='first', classes=[('tests.small', 'Scripted')],\n"
        "    models={'first': Scripted(), 'second': Scripted('raises', fails=True), 'third': Scripted(fails=True)})\n"
    )
    (tmp_path / "visits.csv").write_text("id,shop,at,spent,y\na,x,1000,2.5,True\nb,x,2000,-1,True\nc,x,3000,-1,False\n")
    args = ("backtest", f"{tmp_path}/visits.py:visits", f"{tmp_path}/visits.csv")
    value = json.loads(headrace(*args, "--json").stdout)
    assert value["unanswered"] == {"second": 2}
    assert [(row["n"], row["detail"].split()[0]) for row in value["refused"]] == [(2, "second"), (2, "third")]
    assert "unanswered: second" in headrace(*args).stdout


def test_data_without_labels_are_said_to_be(tmp_path: Path):
    """A missing label column is a word on stderr, in a file of labels an error; a nullable column may be missing."""
    frame = first_flights(100)
    frame.drop(columns="tailnum").rename(columns={"arr_delay": "delay"}).to_csv(tmp_path / "data.csv", index=False)
    result = headrace("backtest", PIPELINE, str(tmp_path / "data.csv"), "--json")
    value = json.loads(result.stdout)
    assert (result.exit_code, value["predictions"], value["labelled"]) == (0, 100, 0)
    assert result.stderr.startswith("The data have no column arr_delay, so there are no labels")
    frame.rename(columns={"arrived_at": "at"}).to_csv(tmp_path / "labels.csv", index=False)
    result = headrace("backtest", PIPELINE, str(tmp_path / "data.csv"), "--labels", str(tmp_path / "labels.csv"))
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: The labels have no column arrived_at; the label schema requires it. "
        f"What they have: {', '.join(frame.rename(columns={'arrived_at': 'at'}).columns[:8])}, ....\n",
    )


def test_a_broken_law_is_exit_1(monkeypatch: pytest.MonkeyPatch):
    """The answer of a backtest whose sums do not add up is no."""
    monkeypatch.setattr("headrace.streams.summary.Summary.laws", {"law": False})
    assert headrace("backtest", PIPELINE, "--limit", "50", "--json").exit_code == 1


def test_a_broker_that_does_not_run_is_exit_1():
    """`broker status` answers no by its exit code, and says so in its JSON."""
    result = headrace("broker", "status", "--json")
    assert (result.exit_code, json.loads(result.stdout)["running"]) == (1, False)


def test_a_start_says_what_is_needed(monkeypatch: pytest.MonkeyPatch):
    """Address, version and log to people; all that is known to programs, and by `broker status`."""
    found = Status("default", True, "4.3.0", "127.0.0.1:9", 7, Path("/data"), False, Path("/data/log"), "java 25")
    monkeypatch.setattr(broker, "start", lambda **_: found)
    monkeypatch.setattr(broker, "status", lambda **_: found)
    rows = headrace("broker", "start").stdout.split()
    assert rows[-6:] == ["bootstrap", "127.0.0.1:9", "version", "4.3.0", "log", "/data/log"]
    assert "fresh" not in rows
    everything = json.loads(headrace("broker", "start", "--json").stdout)
    assert set(everything) == {field.name for field in dataclasses.fields(Status)}
    shown = headrace("broker", "status").stdout
    assert [name for name in everything if name.replace("_", " ") not in shown] == []


def test_python_m_headrace_is_the_command():
    """`python -m headrace` calls itself headrace."""
    done = subprocess.run([sys.executable, "-m", "headrace", "--version"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split()[0]) == (0, "headrace")


def test_a_run_under_another_hash_seed_starts_itself_anew():
    """A backtest started under a random hash seed goes on under 0, with the same arguments."""
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    command = [sys.executable, "-W", "error", "-m", "headrace", "backtest", PIPELINE, "--limit", "60", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr, json.loads(done.stdout)["events"]) == (0, "", 60)


def test_a_python_that_ignores_the_hash_seed_is_told_so():
    """Under -I the seed cannot be set: one sentence rather than starting anew for ever."""
    code = "from headrace.streams.cli import main; main()"
    command = [sys.executable, "-I", "-c", code, "backtest", PIPELINE]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    assert done.returncode == 2
    assert "Python was told to ignore PYTHONHASHSEED" in done.stderr


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, "null"),
        (b"plain \xc3\xa9", "plain é"),
        (b"\x1b[31m\n\xff", "\\x1b[31m\\n\\xff"),
        (b"x" * 200, "x" * 120 + "… (200 bytes)"),
    ],
)
def test_payloads_are_escaped_and_shortened(data: bytes | None, shown: str):
    """What anybody may have sent cannot move the cursor, and fits on a line."""
    assert output.escaped(data) == shown


@pytest.mark.parametrize(
    ("stages", "others"), [([], {"control"}), (["--stages", "validate,featurize"], {"control", "predictions"})]
)
def test_a_worker_asks_for_every_topic_that_it_writes(
    stages: list[str], others: set[str], monkeypatch: pytest.MonkeyPatch
):
    """Without `P.savepoints` it ran for an hour before a line in its log, and `audit` refused meanwhile."""
    asked: set[str] = set()

    def told(_: Any, pipeline: Any, roles: set[str], *, writes: bool) -> None:
        asked.update(roles)
        raise TopicError("Missing topics.")

    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr(options.Context, "cluster", lambda self: None)
    monkeypatch.setattr(run, "require", told)
    assert headrace("run", PIPELINE, "--bootstrap", "127.0.0.1:1", *stages).exit_code == 2
    assert {"journal", "state", "savepoints"} <= asked
    assert not others & asked


# -- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["\x1b[2J", {"note": "a\x1b[31m\x9b31m\x7f\u202e"}])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_record_cannot_steer_the_terminal(value: Any, as_json: bool, capsys: pytest.CaptureFixture[str]):
    """Controls in what anybody may have published are shown, not sent: 7-bit and 8-bit ones, and of direction."""
    headers = [("\x1b]0;h\x07", b"\x1b]0;v\x07")]
    tail._print(Record("t", 0, 0, b"\x1b[A", b"", 0, headers), lambda record: value, as_json)
    out = capsys.readouterr().out.removesuffix("\n")
    assert out.isprintable()
    assert "]0;h" in out
    assert "]0;v" in out


@pytest.mark.parametrize(
    "told",
    [
        lambda said: output.say(said),
        lambda said: output.warn(said),
        lambda said: output.show("", ("value",), [(said,)]),
        lambda said: output.emit("-", {said: [said]}),
    ],
    ids=["say", "warn", "show", "emit"],
)
def test_nothing_that_a_command_prints_steers_the_terminal(
    told: Callable[[str], object], capsys: pytest.CaptureFixture[str]
):
    """Lines, tables and JSON show controls, whoever sent them: facts' reasons, features, ids of events, leaves."""
    told("a\x1b]0;title\x07\x9b2J\x7f\u202e")
    said = "".join(capsys.readouterr())
    assert "title" in said
    assert all(line.isprintable() for line in said.split("\n"))


def test_no_key_is_replaced_where_nobody_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The next step is said, as for any question of a command; with --yes it is replaced."""
    path = tmp_path / "key.pem"
    monkeypatch.setenv("HEADRACE_SIGNING_KEY", str(path))
    signing_key()
    before = path.read_bytes()
    result = headrace("keys", "new")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"Error: Nobody can be asked here: pass --yes to replace the key in {path}.\n"
    assert path.read_bytes() == before
    assert headrace("keys", "new", "--yes").exit_code == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize("time_ms", [-(2**63), -62_135_596_800_001, 253_402_300_800_000, 2**63 - 1])
def test_times_that_no_calendar_has_are_told_in_milliseconds(time_ms: int, capsys: pytest.CaptureFixture[str]):
    """Before year 1 and after 9999: an event's time, and what a producer says is the time of its record."""
    tail._print(Record("t", 0, 0, b"k", b"", time_ms), lambda record: "v", False)
    assert capsys.readouterr().out == f"0:0 {time_ms} ms k v\n"
    assert (moments.moment(time_ms), moments.stamp(time_ms)) == (f"{time_ms} ms", f"{time_ms} ms")


def test_other_times_are_dates(capsys: pytest.CaptureFixture[str]):
    """In UTC."""
    tail._print(Record("t", 0, 0, b"k", b"", 1_357_100_000_001), lambda record: "v", False)
    assert capsys.readouterr().out == "0:0 2013-01-02T04:13:20.001Z k v\n"
    assert moments.stamp(1_357_100_000_001) == "2013-01-02 04:13"


@pytest.mark.parametrize(
    ("more", "said"), [((), True), (("--from-beginning",), True), (("-n", "0"), False), (("--json",), False)]
)
def test_an_empty_topic_is_said_to_be(more: tuple[str, ...], said: bool, monkeypatch: pytest.MonkeyPatch):
    """On stderr, with the next step; scripts and those who want no record are told nothing."""
    reader = SimpleNamespace(
        watermarks=lambda *_: (0, 0),
        stable=lambda *_: 0,
        ends=lambda asked: dict.fromkeys(asked, (0, 0)),
        close=lambda: None,
    )
    monkeypatch.setattr(options.Context, "cluster", lambda self: SimpleNamespace(reader=lambda: reader))
    monkeypatch.setattr(tail, "require", lambda *_: None)
    result = headrace("tail", PIPELINE, "predictions", *more)
    text = f"Nothing is committed in flights.predictions yet: look at `headrace status {PIPELINE}`.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", text if said else "")


@pytest.mark.parametrize("name", ["n" * 101, "a b", ""])
def test_a_name_that_no_worker_takes_is_refused_at_once(name: str):
    """Nobody would answer such a command."""
    found = CliRunner().invoke(cli.main, ["models", PIPELINE, "retrain", "logreg", "--as", name], standalone_mode=False)
    assert isinstance(found.exception, UsageError)
    assert "legal: up to 100 letters" in str(found.exception)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ({"before": "new"}, "new was rolled back to old at n=9; old serves (version 4)."),
        ({}, "rolled back to old at n=9; old serves (version 4)."),
    ],
)
def test_a_rollback_says_who_was_and_who_serves(evidence: dict[str, Any], said: str):
    """A fact of a rollback is about who serves now; who did before is its evidence."""
    fact = Fact(4, "rolled_back", "old", "champion", "old", 0, 9, 5, {}, "me", "", evidence)
    assert models._said(fact, 1.0, PIPELINE) == said


@pytest.mark.parametrize("command", ["list", "history"])
def test_before_the_first_fact_the_next_step_is_named(command: str, monkeypatch: pytest.MonkeyPatch):
    """One sentence, and no table without rows."""
    monkeypatch.setattr(models, "_shards", lambda ctx: [Shard(0, fresh(), [], 0)])
    assert headrace("models", PIPELINE, command).stdout == (
        f"Nothing is registered yet: a worker does that with its first records (`headrace run {PIPELINE}`).\n"
    )


def test_a_model_that_nobody_knows_is_wrong_use(monkeypatch: pytest.MonkeyPatch):
    """With the legal values, as where it is to be promoted; exit 2, and nothing on stdout."""
    monkeypatch.setattr(models, "_shards", lambda ctx: [Shard(0, fresh(), [], 0)])
    result = headrace("models", PIPELINE, "show", "nobody", "--json")
    said = "Error: There is no model 'nobody'; the models are logreg, hat.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)


def test_a_declared_model_of_which_there_is_no_fact_yet_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch):
    """It is no wrong use, and there are no tables without rows."""
    monkeypatch.setattr(models, "_shards", lambda ctx: [Shard(0, fresh(), [], 0)])
    assert headrace("models", PIPELINE, "show", "hat").stdout == (
        f"hat is not registered yet: a worker does that with its first records (`headrace run {PIPELINE}`).\n"
    )


def test_a_snapshot_that_is_not_there_names_a_command_that_is():
    """It named `models P rebuild`, which no shell knows."""
    with pytest.raises(UsageError, match="`headrace models PIPELINE rebuild m/0@1 --publish`"):
        versions._usable(SimpleNamespace(model=None, refused=None, version="m/0@1"))


@pytest.mark.parametrize("members", [0, 1])
def test_a_command_without_an_answer_stays_queued(members: int, monkeypatch: pytest.MonkeyPatch):
    """That no worker runs is said before anybody waits; afterwards what becomes of the command, and where to look."""
    events: list[str] = []

    def answers(*_: Any) -> dict[int, Fact]:
        events.append("waited")
        return {}

    monkeypatch.setattr(models, "_shards", lambda ctx: [Shard(0, fresh(), [], 0)])
    monkeypatch.setattr(
        options.Context,
        "cluster",
        lambda self: SimpleNamespace(
            members=lambda wanted: {name: [{}] * members for name in wanted}, reader=lambda: io.StringIO()
        ),
    )
    monkeypatch.setattr(models.registry, "send", lambda *_: {0: 7})
    monkeypatch.setattr(models.registry, "answers", answers)
    monkeypatch.setattr(models, "warn", events.append)
    result = headrace("models", PIPELINE, "rollback", "--wait", "0.5")
    queued = "No worker is a member of the group: the command is queued and takes effect when one runs "
    assert events == ([] if members else [f"{queued}(`headrace run {PIPELINE}`)."]) + ["waited"]
    assert (result.exit_code, result.stdout) == (
        1,
        "shard 0: no answer within 0.5 s; the command stays queued and takes effect when a worker reads it: "
        f"`headrace models {PIPELINE} history`.\n",
    )


@pytest.mark.parametrize(
    ("kinds", "done"), [(["promoted", "promoted"], True), (["promoted", "refused"], False), (["promoted"], False)]
)
def test_a_command_is_done_when_every_shard_has_done_it(kinds: list[str], done: bool, monkeypatch: pytest.MonkeyPatch):
    """Exit 1 where one has refused it, or has not answered."""
    facts = {n: Fact(4, kind, "hat", None, "hat", n, 9, 5, {}, "me", "", {}) for n, kind in enumerate(kinds)}
    cluster = SimpleNamespace(members=lambda wanted: dict.fromkeys(wanted, range(1)), reader=io.StringIO)
    monkeypatch.setattr(models, "_shards", lambda ctx: [Shard(n, fresh(), [], 0) for n in range(2)])
    monkeypatch.setattr(options.Context, "cluster", lambda self: cluster)
    monkeypatch.setattr(models.registry, "send", lambda *_: {0: 7, 1: 7})
    monkeypatch.setattr(models.registry, "answers", lambda *_: facts)
    result = headrace("models", PIPELINE, "rollback", "--json")
    assert (json.loads(result.stdout)["done"], result.exit_code) == (done, 0 if done else 1)


def test_json_for_terminals_is_the_same_json():
    """Escaping changes how a value is written, not which it is."""
    value = {"note": "\\\x9b\x7f\u2028\U000e0001 é"}
    assert json.loads(output.json_text(value)) == value


class Mute:
    """A producer, and its cluster, that acknowledges the first `answers` records and no more; and a clock."""

    def __init__(self, answers: int) -> None:
        self.answers, self.queue, self.now_s = answers, [], 0.0

    def plain_producer(self) -> Mute:
        """Itself."""
        return self

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Callable[..., None]) -> None:
        """Queue it."""
        self.queue.append(on_delivery)

    def poll(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds
        while self.queue and self.answers:
            self.answers -= 1
            self.queue.pop(0)(None, SimpleNamespace(topic=lambda: "t"))

    def flush(self, seconds: float) -> None:
        """Time passes."""
        self.poll(seconds)

    def __len__(self) -> int:
        return len(self.queue)


def test_a_publisher_that_nobody_answers_says_so_and_gives_up_with_the_next_step(capsys: pytest.CaptureFixture[str]):
    """It was silent for two minutes, or for as long as records were left to be sent, and named no next step."""
    mute: Any = Mute(answers=3)
    publisher = Publisher(mute, clock=lambda: mute.now_s)
    for _ in range(5):
        publisher.send("t", Outgoing(0, b"k", b"v"))
    mute.now_s += 3600  # Ctrl-Z
    for _ in range(110):
        publisher.wait(1)
    publisher.leave()
    assert capsys.readouterr().err.splitlines() == [
        "Waiting for Kafka; acknowledged are 3 of 5 sent to t.",
        "Stopped; acknowledged are 3 of 5 sent to t.",
    ]
    with pytest.raises(HeadraceError, match=r"for 120 s; acknowledged are 3 of 5 .*: when one does, publish the rest"):
        publisher.flush()
    mute.answers = 2
    publisher.flush()
    assert publisher.acknowledged == "acknowledged are 5 of 5 sent to t"


@pytest.mark.parametrize(("days", "workers", "told"), [(3, ["0"], True), (1, ["0"], False), (3, [], False)])
def test_who_publishes_days_at_full_speed_is_told_of_a_worker(
    capsys: pytest.CaptureFixture[str], days: int, workers: list[str], told: bool
):
    """It may have read labels days before their events: nearly all were dead letters, and nothing said why."""
    cluster: Any = SimpleNamespace(members=lambda wanted: dict.fromkeys(wanted, workers))
    warn_of_a_worker(cluster, small(), [Outgoing(at * 86_400_000, b"k", b"v") for at in (0, days)])
    assert ("--rate keeps them together" in capsys.readouterr().err) is told


def test_a_command_without_a_log_says_that_it_waits_for_a_broker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`tail -f` was silent for a minute and gave up; a worker's log has it once."""
    headrace("check", PIPELINE)
    for handlers, said in (([], "No broker answers: waiting for one.\n"), ([logging.NullHandler()], "")):
        monkeypatch.setattr(logging.getLogger(), "handlers", handlers)
        logging.getLogger(WAITING).warning("no broker answers: waiting for one")
        assert capsys.readouterr().err == said


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_a_patience_of_the_watchdog_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    """The worker ran on without a watchdog, whose traceback was shown."""
    monkeypatch.setenv("HEADRACE_STALL_S", text)
    with pytest.raises(UsageError, match=f"HEADRACE_STALL_S is '{text}'; legal: a number of seconds from 1 to 86,400"):
        run._stall_s()


def test_labels_without_the_events_key_are_refused_where_there_are_partitions():
    """They would lie in any partition, where no event waits for them, which is told only when they expire."""
    pipeline, labels = small(partitions=2), [Outgoing(1, None, b""), Outgoing(2, None, b"")]
    with pytest.raises(UsageError, match=r"^The labels have no column shop, .* the same of 2 partitions: add it\.$"):
        check_keys(pipeline, labels)
    check_keys(small(), labels)
    check_keys(pipeline, [])
    check_keys(pipeline, [*labels, Outgoing(3, b"x", b"")])


def test_interleaved_is_by_time_with_labels_first():
    """Equal times: labels before events; a stream that goes back in time keeps its own order."""
    events = [Outgoing(at, None, f"e{at}".encode()) for at in (1, 5, 3, 9)]
    labels = [Outgoing(at, None, f"l{at}".encode()) for at in (5, 9)]
    made = [record.value.decode() for _, record in interleaved({"events": events, "labels": labels})]
    assert made == ["e1", "l5", "e5", "e3", "l9", "e9"]


class _Log:
    """A reader of one partition in which only some offsets hold records."""

    def __init__(self, offsets: list[int], end: int) -> None:
        self.offsets, self.end = offsets, end

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, self.end

    def stable(self, topic: str, partition: int) -> int:
        return self.end

    def read(self, topic: str, partition: int, start: int, end: int):
        yield from (Record(topic, partition, o, None, b"", 0) for o in self.offsets if start <= o < end)


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_last_reaches_past_what_is_no_record(count: int):
    """Markers and gaps do not count, however many: the last records are found as far back as they lie."""
    offsets = [1, 2, 3, 4_000]
    found = [record.offset for record in last(_Log(offsets, 9_000), "t", 0, count)]
    assert found == offsets[len(offsets) - min(count, 4) :]


class _Live(_Log):
    """A topic to which one record is committed between any two questions."""

    def ends(self, asked: list[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        self.offsets.append(self.end)
        self.end += 1
        return dict.fromkeys(asked, (self.end, self.end))


@pytest.mark.parametrize(("before", "first"), [(None, 0), (0, 21), (5, 16)])
def test_who_follows_sees_each_record_once(before: int | None, first: int, monkeypatch: pytest.MonkeyPatch):
    """Also those that are committed while the last ones are looked for."""
    monkeypatch.setattr(tail, "_FOLLOW_S", 0)
    followed = tail._followed(_Live(list(range(20)), 20), "t", 1, before)
    assert [record.offset for record in islice(followed, 30)] == list(range(first, first + 30))


def test_a_worker_is_refused_topics_that_are_missing_or_wrong():
    """Missing ones are named with the remedy, wrong ones with setting and value; those that are right pass."""
    pipeline = small()
    right = {spec.name: (spec.partitions, dict(spec.config)) for spec in topic_specs(pipeline)}

    def described(existing: dict[str, Any]) -> Any:
        return SimpleNamespace(describe=lambda names: {name: existing[name] for name in names if name in existing})

    require(described(right), pipeline, ["events", "journal"])
    with pytest.raises(TopicError, match=r"Missing topics: small\.journal; .*headrace topics PIPELINE --apply"):
        require(described({k: v for k, v in right.items() if k != "small.journal"}), pipeline, ["events", "journal"])
    with pytest.raises(TopicError, match=r"small\.state: cleanup\.policy is delete, not compact"):
        require(described(right | {"small.state": (1, {"cleanup.policy": "delete"})}), pipeline, ["state"])
    with pytest.raises(TopicError, match=r"small\.events has 3 partitions, not 1"):
        require(described(right | {"small.events": (3, {})}), pipeline, ["events"])


def test_groups_are_every_chain_between_cuts():
    """Six groups, the lane first, and each is found again by its stages."""
    found = groups()
    assert found[0].stages == STAGES
    assert len({group.name for group in found}) == 6
    assert [group_of(group.stages) for group in found] == found


# -- the ends of a worker ----------------------------------------------------------------------------------------------


class _Worker:
    """What a watchdog sees of a worker."""

    def __init__(self) -> None:
        self.ticks = self.progress = 0
        self.ready = self.waiting = True
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()


def looked(changes: Any, seconds: int = 25) -> list[tuple[str, int]]:
    """What a watchdog with 10 s of patience does, looking once a second, each time after `changes` to the worker."""
    worker, ended = _Worker(), []
    dog = Watchdog(worker, 10, end=lambda message, code: ended.append((message, code)))
    for now in range(seconds):
        changes(worker, now)
        dog.look(now)
    return ended


def test_a_worker_that_goes_round_and_commits_is_left_alone():
    """Cycles and commits, even if one takes nine seconds, are progress."""
    assert looked(lambda w, now: w.__dict__.update(ticks=now // 9, progress=now // 9)) == []


def test_a_loop_that_stands_still_is_ended():
    """No cycle for longer than the patience: exit 70, and the message says so."""
    ended = looked(lambda w, now: None, 12)
    assert [code for _, code in ended] == [STALLED]
    assert "stood still for 10 s" in ended[0][0]


def test_a_worker_whose_broker_stays_away_ends_with_a_sentence():
    """It waits for a broker twice, for more than a minute each: its watchdog ended it in between, with every stack."""
    worker = Worker(small(), group_of(), None, topics=str)
    ended: list[tuple[str, int]] = []
    dog = Watchdog(worker, 120, end=lambda message, code: ended.append((message, code)))
    seconds = iter(range(1_000))

    def away(*_: Any) -> None:
        for _ in range(75):
            dog.look(next(seconds))
        raise Aborted("No Kafka broker answers any more")

    worker._slot = SimpleNamespace(end_leftovers=away, reopen=away, drop=lambda: None)  # type: ignore[assignment]
    with pytest.raises(Aborted, match="No Kafka broker answers"):
        worker.cycle()
    assert ended == []


@pytest.mark.parametrize("left", [None, "recovery", "partitions", "to process", "to commit"])
def test_a_worker_has_caught_up_when_nothing_is_left(left: str | None):
    """However far its inputs were read."""
    worker, lane = Worker(small(), group_of(), None, topics=str), SimpleNamespace(task=SimpleNamespace(merge=[]))
    lane.task.merge += [1] * (left == "to process")
    lanes = {} if left == "partitions" else {0: lane}
    worker._assignment = SimpleNamespace(ready=left != "recovery", lanes=lanes)  # type: ignore[assignment]
    worker._committer = SimpleNamespace(busy=left == "to commit")  # type: ignore[assignment]
    worker._upstream = SimpleNamespace(ended=lambda lanes: True)  # type: ignore[assignment]
    assert worker.caught_up() is (left is None)


def test_a_worker_whose_last_commit_failed_ends_without_a_checkpoint(caplog: pytest.LogCaptureFixture):
    """What is in memory never happened; the next start makes it again."""

    def settle() -> None:
        raise Aborted("the broker is away")

    worker = Worker(small(), group_of(), None, topics=str)
    worker._committer = SimpleNamespace(settle=settle)  # type: ignore[assignment]
    worker._assignment.lanes = {0: None}  # type: ignore[dict-item]
    worker.finish()
    assert "the last transaction did not happen, so there is no checkpoint of it: the broker is away" in caplog.text


def test_a_worker_whose_last_checkpoint_fails_ends_all_the_same(caplog: pytest.LogCaptureFixture):
    """It was told to stop, and did: it ended with an error, and exit 1."""

    def now(lane: Any) -> None:
        if lane.task.shard == 0:
            raise Expelled("another worker has it")

    worker = Worker(small(), group_of(), None, topics=str)
    worker._checkpointing.now = now  # type: ignore[method-assign]
    worker._slot = SimpleNamespace(distrust=lambda lanes: None)  # type: ignore[assignment]
    lanes = {n: SimpleNamespace(task=SimpleNamespace(shard=n, seq=5), checkpointed_seq=5) for n in (0, 1)}
    for lane in lanes.values():
        lane.savepoint_done = threading.Event()
        lane.savepoint_done.set()
    worker._assignment.lanes = lanes  # type: ignore[assignment]
    with caplog.at_level("INFO"):
        worker.finish()
    assert "no checkpoint of lane/0: another worker has it" in caplog.text
    assert "stopped without a checkpoint" in caplog.text
    assert "lane/1" not in caplog.text


def test_code_that_keeps_the_interpreter_to_itself_is_ended():
    """No thread of Python's can look while a regular expression backtracks; the process ends all the same."""
    program = (
        "import re, threading, types; from headrace.streams.worker.watchdog import Watchdog;"
        "worker = types.SimpleNamespace(ticks=0, progress=0, ready=True, waiting=True);"
        "Watchdog(worker, 1.0).start(lambda: 0.0);"  # its own clock stands, so that only the other end is left
        "threading.Event().wait(0.6);"
        "re.match('(a+)+$', 'a' * 60 + 'b')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr


def test_work_without_a_commit_is_ended():
    """The loop turns, records wait, and nothing is committed: that is a stall too."""
    ended = looked(lambda w, now: w.__dict__.update(ticks=now), 12)
    assert "committed nothing for 10 s" in ended[0][0]


@pytest.mark.parametrize("state", [{"ready": False}, {"waiting": False}])
def test_an_idle_or_recovering_worker_is_left_alone(state: dict[str, bool]):
    """Without work there is nothing to commit, and a recovery has its own pace as long as the loop turns."""
    assert looked(lambda w, now: w.__dict__.update(ticks=now, **state)) == []


def test_a_signal_stops_the_worker_within_its_budget():
    """SIGTERM asks it to stop; when it does not, the process ends with 1 after the budget."""
    worker, ended = _Worker(), threading.Event()
    codes: list[int] = []

    def end(message: str, code: int) -> None:
        codes.append(code)
        ended.set()

    undo = stop_on_signals(worker, 0.01, end=end)
    try:
        signal.raise_signal(signal.SIGTERM)
        assert worker.stopped.is_set()
        assert ended.wait(10)
    finally:
        undo()
    assert codes == [1]


@pytest.mark.parametrize("ignored", [False, True])
def test_a_terminal_that_goes_away_stops_the_worker(ignored: bool):
    """SIGHUP is as SIGTERM, so that there is a checkpoint; under `nohup` it stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    worker = _Worker()
    undo = stop_on_signals(worker, 60, end=lambda message, code: None)
    try:
        signal.raise_signal(signal.SIGHUP)
        assert worker.stopped.is_set() is not ignored
    finally:
        undo()
        signal.signal(signal.SIGHUP, before)


def test_a_worker_that_stops_in_time_is_not_ended():
    """Undoing cancels the budget and restores the handlers."""
    before = signal.getsignal(signal.SIGTERM)
    ended: list[int] = []
    undo = stop_on_signals(_Worker(), 60, end=lambda message, code: ended.append(code))
    signal.raise_signal(signal.SIGTERM)
    undo()
    assert (ended, signal.getsignal(signal.SIGTERM)) == ([], before)
    assert not [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer) and thread.finished.is_set() is False
    ]


def test_a_second_interrupt_ends_at_once():
    """Ctrl-C twice does not wait for a checkpoint."""
    ended: list[int] = []
    undo = stop_on_signals(_Worker(), 60, end=lambda message, code: ended.append(code))
    try:
        signal.raise_signal(signal.SIGINT)
        assert ended == []
        signal.raise_signal(signal.SIGINT)
    finally:
        undo()
    assert ended == [1]


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch):
    """On a terminal the bar shows its title; in a pipe nothing is written."""

    class Terminal(io.StringIO):
        tty = True

        def isatty(self) -> bool:
            return self.tty

    for tty in (True, False):
        stream = Terminal()
        stream.tty = tty
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        with output.progress("backtest", 10) as advance:
            advance(10)
        assert ("backtest" in stream.getvalue()) is tty


@pytest.mark.parametrize("args", [[], ["models"], ["broker"], ["keys"], ["dead-letter"]], ids=" ".join)
def test_a_group_alone_shows_its_help(args: list[str]):
    """It is no error to look what there is; scripts notice all the same, by exit code 2."""
    result = headrace(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: headrace")
    assert "Commands:" in result.stderr


def test_a_file_alone_is_answered_with_the_pipeline_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever names a file or a folder of `headrace new` is told what to write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "sites.py").write_text("mine = Pipeline('sites')\n")
    for name in ("sites", "sites/sites.py"):
        assert "as in sites/sites.py:mine." in headrace("check", name).stderr
