"""The command line against a real broker: a pipeline from its topics to its audit, as scripts would run it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.streams.cli import main
from headrace.streams.kafka import Cluster

ROOT = Path(__file__).resolve().parents[2]
COUNT = 1_500
PIPELINE = """
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler
from headrace import Events, Labels, Pipeline, count, field, watch_error
from headrace.examples.flights_data import flights
from river.drift import ADWIN

lane = Pipeline(
    {name!r},
    task="binary",
    events=Events({root!r} + "/examples/flight.avsc", id="event_id", key="origin", time="scheduled_departure"),
    labels=Labels({root!r} + "/examples/arrival.avsc", id="event_id", time="arrived_at", y=lambda a: a.arr_delay > 15),
    features={{"distance": field("distance"), "origin_flights_1h": count(by="origin", over="1h")}},
    models={{"logreg": StandardScaler() | LogisticRegression(), "bare": LogisticRegression()}},
    champion="logreg",
    drift=[watch_error(ADWIN())],
    data=flights,
)
"""


class Shell:
    """`headrace` on a pipeline with topics of its own, workers in processes of their own."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.name = f"cli-{uuid.uuid4().hex[:8]}"
        file = folder / f"{self.name.replace('-', '_')}.py"
        file.write_text(PIPELINE.format(name=self.name, root=str(ROOT)))
        self.pipeline = f"{file}:lane"
        self.environ = {
            **os.environ,
            "HEADRACE_BOOTSTRAP": cluster.bootstrap,
            "HEADRACE_SIGNING_KEY": str(folder / "key.pem"),
            "PYTHONHASHSEED": "0",
        }
        self.running: list[subprocess.Popen[str]] = []

    def __call__(self, *args: str, code: int = 0, **variables: str) -> str:
        """What a command prints; its exit code is checked. Only workers get a process, as starting one takes long."""
        if args[0] == "run":
            done = subprocess.run(
                self._command(args), env=self.environ | variables, capture_output=True, text=True, timeout=300
            )
            found = (done.returncode, done.stdout, done.stderr)
        else:
            result = CliRunner().invoke(main, self._words(args), env=self.environ | variables, prog_name="headrace")
            found = (result.exit_code, result.stdout, result.stderr)
        assert found[0] == code, found
        return found[1] if code in (0, 1) else found[2]

    def json(self, *args: str, code: int = 0) -> dict:
        """The JSON that a command prints."""
        return json.loads(self(*args, "--json", code=code))

    def start(self, *args: str, stdout: int | None = None) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        process = subprocess.Popen(
            self._command(args), env=self.environ, stdout=stdout, stderr=subprocess.PIPE, text=True
        )
        self.running.append(process)
        return process

    def _command(self, args: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "headrace", *self._words(args)]

    def _words(self, args: tuple[str, ...]) -> list[str]:
        return [self.pipeline if arg == "P" else arg for arg in args]


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> Iterator[Shell]:
    """A pipeline of its own; whatever it left running is ended, and its topics are deleted."""
    shell = Shell(cluster, tmp_path)
    yield shell
    for process in shell.running:
        process.kill()
        process.communicate()
    cluster.delete([name for name in cluster.admin.list_topics(timeout=60).topics if name.startswith(shell.name)])


@pytest.fixture
def published(shell: Shell) -> Shell:
    """Topics made and flights published."""
    shell("topics", "P", "--apply")
    shell("publish", "P", "--limit", str(COUNT))
    return shell


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read a process's log up to a line that holds `text`."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the log ended without {text!r}")


def test_from_topics_to_audit(shell: Shell):
    """Missing topics are reported, created and then right; what is published is predicted, seen, and audited."""
    assert shell.json("topics", "P", code=1)["right"] is False
    assert "With --apply, the missing ones are created." in shell("topics", "P", code=1)
    told = shell("run", "P", code=2)
    assert "Missing topics:" in told
    assert f"`headrace topics {shell.pipeline} --apply`" in told
    assert "Missing topics:" in shell("publish", "P", code=2)
    assert {row["state"] for row in shell.json("topics", "P", "--apply")["topics"]} == {"created"}
    assert shell.json("topics", "P")["right"] is True

    counts = shell.json("publish", "P", "--limit", str(COUNT))
    assert counts["events"] == COUNT
    shell("run", "P", "--until-caught-up")

    audit = shell.json("audit", "P")
    assert audit["different"] == 0
    assert audit["compared"] >= 2 * COUNT + counts["labels"]
    status = shell.json("status", "P")
    (group,) = status["groups"]
    assert [(place["committed"], place["lag"]) for place in group["inputs"]] == [(counts["labels"], 0), (COUNT, 0)]
    assert group["journal"][0]["batches"] == audit["journal_batches"]
    assert status["last_prediction"]["model"].startswith("logreg/0@")
    assert (status["counts"]["events"], status["missing"], status["champions"][0]["model"]) == (COUNT, [], "logreg")
    assert [law["holds"] for law in status["laws"]] == [True, True, True]

    backtest = shell.json("backtest", "P", "--limit", str(COUNT))
    lines = [json.loads(line) for line in shell("tail", "P", "predictions", "--from-beginning", "--json").splitlines()]
    assert len(lines) == backtest["predictions"] == COUNT
    assert [json.loads(line) for line in shell("tail", "P", "predictions", "-n", "3", "--json").splitlines()] == lines[
        -3:
    ]
    for role in ("features", "examples"):
        value = json.loads(shell("tail", "P", role, "--from-beginning", "-n", "1", "--json"))["value"]
        assert set(value["features"]) == {"distance", "origin_flights_1h"}


def test_a_wrong_topic_is_reported_and_refused(shell: Shell):
    """A topic that somebody configured otherwise: exit 1 with setting and values, and no worker starts on it."""
    shell.cluster.create([(f"{shell.name}.journal", 1, {"cleanup.policy": "compact"})])
    found = shell.json("topics", "P", "--apply", code=1)
    (journal,) = [row for row in found["topics"] if row["state"] == "wrong"]
    assert f"{shell.name}.journal: cleanup.policy is compact, not delete" in journal["wrong"]
    assert "cleanup.policy is compact" in shell("run", "P", code=2)


def test_sigterm_checkpoints_and_exits_0(published: Shell):
    """A stopped worker leaves a checkpoint of all it did, so its successor has nothing to replay."""
    worker = published.start("run", "P", "--checkpoint", "1h", "--log-json", "--metrics-port", "0")
    wait_for(worker, "is ready to read; partitions: 0")
    wait_until_lag_is_gone(published)
    worker.send_signal(signal.SIGTERM)
    wait_for(worker, "stopped after a checkpoint")
    assert worker.wait(60) == 0
    successor = published.start("run", "P", "--until-caught-up")
    wait_for(successor, "0 journal records")
    wait_for(successor, "caught up")
    assert successor.wait(60) == 0
    assert published.json("audit", "P")["different"] == 0


def wait_until_lag_is_gone(shell: Shell) -> None:
    """Ask for the status until every input is processed."""
    for _ in range(60):
        groups = shell.json("status", "P")["groups"]
        if groups and not any(place["lag"] for place in groups[0]["inputs"]):
            return
    raise AssertionError("the worker did not catch up")


def test_three_processes_meet_in_topics(published: Shell):
    """Cut into three groups, run one after the other, the chain publishes what the audit recomputes."""
    for stages in ("validate,featurize", "predict,join,train,evaluate", "drift"):
        published("run", "P", "--stages", stages, "--until-caught-up")
    assert published.json("audit", "P")["different"] == 0
    assert {group["group"].removeprefix(published.name) for group in published.json("status", "P")["groups"]} == {
        ".validate-featurize",
        ".predict-join-train-evaluate",
        ".drift",
    }


def test_another_specification_is_refused_until_accepted(published: Shell):
    """A changed declaration stops with exit 2 and the name of what changed; --accept-change goes on.

    The new epoch is audited from its first record on, though the worker stops within a second.
    """
    published("run", "P", "--until-caught-up")
    file = Path(published.pipeline.partition(":")[0])
    file.write_text(file.read_text().replace('over="1h"', 'over="2h"'))
    said = published("run", "P", "--until-caught-up", code=2)
    assert "specification: features.origin_flights_1h.over_ms, features.origin_flights_1h.tile_ms changed" in said
    assert "--accept-change" in said
    published("publish", "P", "--limit", "10")
    worker = published.start("run", "P", "--until-caught-up", "--accept-change")
    wait_for(worker, "epoch 1 begins: features.origin_flights_1h.over_ms, features.origin_flights_1h.tile_ms changed")
    assert worker.wait(60) == 0
    audit = published.start("audit", "P", "--json", stdout=subprocess.PIPE)  # this process has the pipeline of before
    audited = json.loads(audit.communicate(timeout=60)[0])
    assert audited["different"] == 0
    assert audited["ranges"]["lane/0"][f"{published.name}.events"] == [COUNT, COUNT + 10]


def test_dead_letters_are_counted_shown_and_retried(published: Shell):
    """Refused records are found by reason, printed harmlessly, and published again byte for byte."""
    producer = published.cluster.plain_producer()
    bad = b'\x1b[31m{"event_id'
    for value in (bad, b"\xff\xfe", None):
        producer.produce(f"{published.name}.events", value, b"JFK")
    producer.flush(30)
    published("run", "P", "--until-caught-up")

    rows = published.json("dead-letter", "list", "P")["dead_letters"]
    assert {row["reason"]: row["n"] for row in rows} == {"malformed": 1, "not_utf8": 1, "null": 1}
    (shown,) = published.json("dead-letter", "show", "P", "--reason", "malformed")["dead_letters"]
    assert shown["value"] == '\\x1b[31m{"event_id'
    assert "\x1b" not in published("dead-letter", "show", "P")
    assert "There are none." in published("dead-letter", "show", "P", "--reason", "late_label")
    assert "There are none." in published("alerts", "P", "--signal", "prediction")

    assert "pass --yes" in published("dead-letter", "retry", "P", shown["place"], code=2)
    assert "No dead letter is at 0:999999" in published("dead-letter", "retry", "P", "999999", "--yes", code=2)
    assert published.json("dead-letter", "retry", "P", shown["place"], "--yes") == {"retried": [shown["place"]]}
    (again,) = list(published.cluster.reader().read(f"{published.name}.events", 0, COUNT + 3))
    assert (again.key, again.value) == (b"JFK", bad)


def test_dead_letters_of_several_partitions_are_ordered_by_time_and_go_back_to_their_partition(shell: Shell):
    """Newest is what came last, not what the last partition has; and a retry does not ask where the key belongs."""
    file = Path(shell.pipeline.partition(":")[0])
    file.write_text(file.read_text().replace("data=flights", "partitions=2"))
    shell("topics", "P", "--apply")
    producer = shell.cluster.plain_producer()
    for partition in (1, 0):  # one of these is not the one of the key
        producer.produce(f"{shell.name}.events", b"{", b"JFK", partition)
        producer.flush(30)
        shell("run", "P", "--until-caught-up")

    places = [row["place"] for row in shell.json("dead-letter", "show", "P")["dead_letters"]]
    assert places == ["1:0", "0:0"]
    assert shell.json("dead-letter", "show", "P", "-n", "1")["dead_letters"][0]["place"] == "0:0"
    (row,) = shell.json("dead-letter", "list", "P")["dead_letters"]
    assert (row["first"], row["last"]) == ("1:0", "0:0")

    shell("dead-letter", "retry", "P", *places, "--yes")
    ends = shell.cluster.reader().ends([(f"{shell.name}.events", partition) for partition in (0, 1)])
    assert {stable for stable, _ in ends.values()} == {2}


def test_a_dead_letter_that_was_cut_is_not_published_again(published: Shell):
    """Its whole record is named instead, and nothing is sent, not even what was chosen beside it."""
    producer = published.cluster.plain_producer()
    producer.produce(f"{published.name}.events", b"{", b"JFK")
    producer.produce(f"{published.name}.events", b"{", b"k" * 1_000_001)
    producer.flush(30)
    published("run", "P", "--until-caught-up")

    places = [row["place"] for row in published.json("dead-letter", "show", "P")["dead_letters"]]
    said = published("dead-letter", "retry", "P", *places, "--yes", code=2)
    assert f"{places[1]} was cut" in said
    assert f"the whole record is in {published.name}.events/0 at offset {COUNT + 1}" in said
    assert not list(published.cluster.reader().read(f"{published.name}.events", 0, COUNT + 2))


def test_a_token_that_was_chosen_is_in_no_log(published: Shell):
    """Written to no pipe; one that was made up is, as nobody would know it else."""
    published.environ["HEADRACE_CONTROL_TOKEN"] = "chosen-by-somebody-0123456789"
    chosen = published.start("control", "P", "--port", "0", stdout=subprocess.PIPE)
    del published.environ["HEADRACE_CONTROL_TOKEN"]
    made_up = published.start("control", "P", "--port", "0", stdout=subprocess.PIPE)
    assert chosen.stdout is not None
    assert made_up.stdout is not None
    assert chosen.stdout.readline().endswith("(for changes: #token=...)\n")
    assert re.search(r"/#token=\S{20,}$", made_up.stdout.readline())
    chosen.terminate()
    assert "chosen-by-somebody" not in "".join(chosen.communicate(timeout=60))


def test_models_live_and_are_decided_on(published: Shell):
    """Promoted and rolled back while a worker runs; who comes too late, or asks for nonsense, is told."""
    published("run", "P", "--until-caught-up")
    rows = published.json("models", "P", "list")["models"]
    assert [(row["model"], row["status"]) for row in rows] == [("logreg", "champion"), ("bare", "challenger")]
    worker = published.start("run", "P")
    wait_for(worker, "recovered")
    done = published.json("models", "P", "promote", "bare", "--why", "a test", "--by", "me", "--saw", "2")
    (shard,) = done["shards"]
    assert (done["done"], shard["fact"]["kind"], shard["fact"]["by"]) == (True, "promoted", "me")
    late = published.json("models", "P", "promote", "logreg", "--saw", "2", code=1)
    assert "version 3 is promoted of bare" in late["shards"][0]["fact"]["why"]
    assert "There is no model 'nobody'; the models are logreg, bare." in published(
        "models", "P", "retire", "nobody", code=2
    )
    assert published.json("models", "P", "rollback")["shards"][0]["fact"]["champion"] == "logreg"
    assert published.json("models", "P", "canary", "bare", "0.5")["done"]
    assert published.json("models", "P", "show", "bare")["shards"][0]["share"] == 0.5
    worker.terminate()
    assert worker.wait(60) == 0
    kinds = [fact["kind"] for fact in published.json("models", "P", "history")["facts"]]
    assert kinds == ["registered", "registered", "promoted", "refused", "rolled_back", "canary"]
    assert "no answer within 0.5 s" in published("models", "P", "retire", "bare", "--wait", "0.5", code=1)
    published("run", "P", "--until-caught-up")
    assert published.json("models", "P", "list")["models"][1]["status"] == "retired"
    assert published.json("audit", "P")["different"] == 0


def test_reset_asks_refuses_and_starts_anew(published: Shell):
    """A dry run deletes nothing; while a worker is a member it refuses; then everything but the inputs is empty."""
    published("run", "P", "--until-caught-up")
    worker = published.start("run", "P")
    wait_for(worker, "recovered")
    assert "Workers are still members of" in published("reset", "P", "--yes", code=2)
    worker.terminate()
    assert worker.wait(60) == 0
    wanted = published.json("reset", "P")
    assert wanted["done"] is False
    assert wanted["topics"][f"{published.name}.features"] > COUNT
    assert published.json("reset", "P", "--yes", "--wait", "30")["done"] is True
    assert published.json("topics", "P")["right"] is True
    assert published.json("status", "P")["groups"] == []
    published("run", "P", "--until-caught-up")
    found = published.json("audit", "P")
    assert (found["different"], found["by_topic"]["features"]["compared"]) == (0, COUNT)


def test_a_paced_publisher_interleaves_events_and_labels(shell: Shell):
    """With --rate, events come at that pace and labels among them; --only leaves the others out."""
    shell("topics", "P", "--apply")
    found = shell.json("publish", "P", "--limit", "300", "--rate", "300")
    assert found["seconds"] >= 0.9
    assert found["events"] == 300
    first_label = json.loads(shell("tail", "P", "labels", "--from-beginning", "-n", "1", "--json"))
    last_event = json.loads(shell("tail", "P", "events", "-n", "1", "--json"))
    assert first_label["timestamp_ms"] < last_event["timestamp_ms"]
    assert "events" not in shell.json("publish", "P", "--limit", "10", "--only", "labels")


def test_a_wrong_variable_is_wrong_use(published: Shell):
    """A variable that is no number is named."""
    assert "HEADRACE_STALL_S is 'soon'" in published("run", "P", code=2, HEADRACE_STALL_S="soon")
