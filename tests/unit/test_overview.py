"""The overview of a pipeline, over topics that are handed to it, and how `headrace status` shows it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from headrace.processors.registry import fresh
from headrace.schemas.records import Alert, Evaluation, Fact, Prediction
from headrace.streams.cli import main
from headrace.streams.commands import status
from headrace.streams.commands.glance import lines, view
from headrace.streams.errors import HeadraceError, Unreachable
from headrace.streams.journal import Entry, write
from headrace.streams.log import Record
from headrace.streams.packing import pack
from headrace.streams.status.findings import last_prediction, models
from headrace.streams.status.overview import Seen, gather
from headrace.streams.topics import topic_specs
from tests.small import small

NAME = "small"


class Topics:
    """A cluster and its reader in one: topics are lists, one partition each."""

    def __init__(self, pipeline: Any) -> None:
        self.logs: dict[str, list[Record]] = {spec.name: [] for spec in topic_specs(pipeline)}
        self.offsets: dict[tuple[str, int], int] = {}
        self.workers: list[dict[str, Any]] = []
        self.away = False
        self.read_so_far = 0

    def put(self, role: str, value: Any, key: bytes | None = None, **headers: str) -> None:
        """Append a record."""
        log = self.logs[f"{NAME}.{role}"]
        data = value if isinstance(value, bytes) else msgspec.json.encode(value)
        said = [(name, text.encode()) for name, text in headers.items()]
        log.append(Record(f"{NAME}.{role}", 0, len(log), key, data, 1_000 + len(log), said or None))

    def checkpoint(self, counts: dict[str, int], stream_ms: int = 9_000, learned: Any = (7, 4_000)) -> None:
        """Write what a checkpoint has of the chain."""
        for name, value in {"clock": [stream_ms, [0, 0]], "counts": counts, "progress": list(learned)}.items():
            self.put("state", pack((1, pack(value))), pack(("lane", "chain", name, 0)))
        self.put("state", pack({"seq": 1}), pack(("lane", "marker")))

    def topics(self, timeout_s: float) -> set[str]:
        if self.away:
            raise Unreachable("No Kafka broker answers at here:9.")
        return set(self.logs)

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        return dict(self.offsets) if group == NAME else {}

    def members(self, wanted: list[str]) -> dict[str, list[dict[str, Any]]]:
        return {group: self.workers if group == NAME else [] for group in wanted}

    def reader(self) -> Topics:
        return self

    def close(self) -> None:
        """Nothing to release."""

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.logs[topic])

    def stable(self, topic: str, partition: int) -> int:
        return len(self.logs[topic])

    def read(self, topic: str, partition: int, start: int, end: int) -> list[Record]:
        found = self.logs[topic][start:end]
        self.read_so_far += len(found)
        return found


@pytest.fixture
def pipeline() -> Any:
    """The small pipeline under the name of its topics here."""
    found = small()
    found.name = NAME
    return found


@pytest.fixture
def topics(pipeline: Any) -> Topics:
    """Empty topics."""
    return Topics(pipeline)


def alert(name: str, status: str, severity: str = "warning", message: str = "it moved") -> Alert:
    """A record of an alert."""
    return Alert(
        name, "error_drift", "error", severity, status, message, "ADWIN()", {"after": 0.5}, 1.0,
        32, "small.events", 0, 10, 41, 1_000, 2_000, 1, ["e1"],
    )  # fmt: skip


def test_the_second_look_knows_how_fast(pipeline: Any, topics: Topics):
    """Rates are what was committed and written between two looks, a second."""
    topics.offsets = {("small.events", 0): 10, ("small.labels", 0): 0}
    seen = Seen()
    first = gather(topics, topics, pipeline, seen, wall=lambda: 100.0)
    assert {stage["rate_per_s"] for stage in first["stages"]} == {None}
    topics.offsets["small.events", 0] = 60
    for _ in range(4):
        topics.put("features", b"x")
    second = gather(topics, topics, pipeline, seen, wall=lambda: 102.0)
    rates = {stage["stage"]: stage["rate_per_s"] for stage in second["stages"]}
    assert (rates["validate"], rates["predict"], rates["join"]) == (25.0, 2.0, 0.0)


def test_lag_stands_where_the_records_wait(pipeline: Any, topics: Topics):
    """Events wait for the first stage that reads them, labels for the join; what is chained waits for nothing."""
    for _ in range(5):
        topics.put("events", b"{}")
    topics.put("labels", b"{}")
    topics.offsets = {("small.events", 0): 2, ("small.labels", 0): 0}
    value = gather(topics, topics, pipeline)
    assert {stage["stage"]: stage["lag"] for stage in value["stages"]} == {
        "validate": 3, "featurize": None, "predict": None, "join": 1, "train": None, "evaluate": None, "drift": None,
    }  # fmt: skip
    assert value["groups"][0]["lag"] == 4


def test_transaction_markers_are_no_lag(pipeline: Any, topics: Topics, monkeypatch: pytest.MonkeyPatch):
    """An idle input whose end is a marker has no lag; few offsets are read to tell, and not again while they stand."""
    kept = topics.read

    def read(topic: str, partition: int, start: int, end: int) -> list[Record]:
        return [record for record in kept(topic, partition, start, end) if record.value != b"marker"]

    monkeypatch.setattr(topics, "read", read)
    for value in (b"{}", b"marker", b"{}", b"marker", b"marker"):
        topics.put("events", value)
    seen = Seen()
    for committed, lag in ((1, 1), (3, 0)):
        topics.offsets = {("small.events", 0): committed, ("small.labels", 0): 0}
        value = gather(topics, topics, pipeline, seen)
        assert [group["lag"] for group in value["groups"]] == [lag]
        assert value["stages"][0]["lag"] == lag
    before = topics.read_so_far
    assert gather(topics, topics, pipeline, seen)["groups"][0]["lag"] == 0
    assert topics.read_so_far == before
    for _ in range(60):
        topics.put("events", b"marker")
    assert gather(topics, topics, pipeline, seen)["groups"][0]["lag"] == 62


def test_a_quick_group_is_never_ahead_of_the_end(pipeline: Any, topics: Topics, monkeypatch: pytest.MonkeyPatch):
    """Records that come and are taken while one looks make no lag below zero."""
    known = topics.committed

    def committed(group: str) -> dict[tuple[str, int], int]:
        topics.put("events", b"{}")
        topics.offsets = {("small.events", 0): len(topics.logs["small.events"]), ("small.labels", 0): 0}
        return known(group)

    monkeypatch.setattr(topics, "committed", committed)
    (group,) = gather(topics, topics, pipeline)["groups"]
    assert group["lag"] >= 0


def test_what_came_while_one_looks_is_not_from_the_future():
    """A prediction is published after the clock was read: under traffic it was -0.6 s old."""
    seen = Seen()
    seen.predictions[0] = (SimpleNamespace(time_ms=0, event_id="e", model="m/0@0", behind_ms=0), 1_600)  # type: ignore[assignment]
    found = [last_prediction(seen, now_s) for now_s in (1.0, 2.0)]
    assert [each["age_s"] for each in found if each is not None] == [0.0, 0.4]


def test_only_open_alerts_are_counted(pipeline: Any, topics: Topics):
    """The last record of an id says whether it is open; a garbled record is nobody's alert."""
    for record in (alert("a", "opened"), alert("b", "opened", "critical"), alert("a", "resolved"), b"{"):
        topics.put("alerts", record)
    found = gather(topics, topics, pipeline)["alerts"]
    assert (found["open"], found["severities"]) == (1, {"critical": 1, "warning": 0, "info": 0})
    assert [each["alert_id"] for each in found["newest"]] == ["b"]


def test_dead_letters_are_counted_once(pipeline: Any, topics: Topics):
    """By topic, stage and reason; a second look reads only what is new."""
    seen = Seen()
    headers = {"topic": "small.events", "stage": "validate"}
    topics.put("dead-letter", b"?", reason="malformed", detail="no JSON", **headers)
    gather(topics, topics, pipeline, seen)
    before = topics.read_so_far
    topics.put("dead-letter", b"?", reason="malformed", detail="no JSON either", **headers)
    topics.put("dead-letter", b"?", reason="null", detail="", **headers)
    found = gather(topics, topics, pipeline, seen)["dead_letters"]
    assert topics.read_so_far == before + 2
    assert [(row["reason"], row["n"], row["detail"]) for row in found["reasons"]] == [
        ("malformed", 2, "no JSON either"),
        ("null", 1, ""),
    ]
    assert found["n"] == 3


def test_a_topic_that_was_made_anew_begins_anew(pipeline: Any, topics: Topics):
    """After `headrace reset` nothing of before is shown."""
    seen = Seen()
    for name in "ab":
        topics.put("alerts", alert(name, "opened"))
    assert gather(topics, topics, pipeline, seen)["alerts"]["open"] == 2
    topics.logs["small.alerts"].clear()
    topics.put("alerts", alert("c", "opened"))
    found = gather(topics, topics, pipeline, seen)["alerts"]["newest"]
    assert [each["alert_id"] for each in found] == ["c"]


@pytest.mark.parametrize(("features", "broken"), [(9, []), (8, ["events = features + dead letters + duplicates"])])
def test_conservation_is_that_of_the_last_checkpoint(pipeline: Any, topics: Topics, features: int, broken: list[str]):
    """A law that does not hold is named; what is pending is what the sum leaves."""
    counts = {"events": 10, "features": features, "duplicates": 0, "dead.validate.null": 1}
    topics.checkpoint({"events": 3, "features": 3, "predictions": 3})
    topics.checkpoint(counts | {"predictions": features, "labelled": 5, "expired": 1})
    topics.offsets = {("small.events", 0): 10}
    value = gather(topics, topics, pipeline)
    assert [law["law"] for law in value["laws"] if not law["holds"]] == broken
    assert (value["counts"]["pending"], value["counts"]["dead_letters"]) == (features - 6, {"null": 1})
    assert (value["freshness"]["learned"], value["freshness"]["model_age_s"]) == (7, 5.0)


def test_counts_are_found_however_far_back(pipeline: Any, topics: Topics):
    """A checkpoint of many entries has its counts far before its end."""
    for name, value in {"clock": [5, [0]], "counts": {"events": 1}, "progress": [0, None]}.items():
        topics.put("state", pack((1, pack(value))), pack(("lane", "chain", name, 0)))
    for number in range(9_000):
        topics.put("state", pack(1), pack(("lane", "windows", "w", number)))
    topics.put("state", pack({}), pack(("lane", "marker")))
    topics.offsets = {("small.events", 0): 1}
    assert gather(topics, topics, pipeline)["counts"]["events"] == 1


def test_models_stand_beside_the_baselines(pipeline: Any, topics: Topics):
    """The champion comes first, with the figures of its last evaluation; a proposal is marked."""
    for version, (kind, model, what) in enumerate(
        [
            ("registered", "new", "challenger"),
            ("registered", "old", "champion"),
            ("proposed", "new", "challenger"),
        ],
        1,
    ):
        topics.put("registry", Fact(version, kind, model, what, "old", 0, 0, None, {}, "declaration", "", {}))
    topics.put("registry", {"record": "command", "id": "c"})
    for window, score in (("overall", 0.25), ("overall", 0.5), ("last-1000", 0.75)):
        topics.put("evaluations", Evaluation("old", "champion", 0, None, window, 9, 7, 1, 9, 1, 9, {"ROCAUC": score}))
    topics.put("evaluations", Evaluation("old", "champion", 0, "shop=a", "overall", 1, 1, 1, 1, 1, 1, {"ROCAUC": 0.0}))
    topics.put("evaluations", Evaluation("prior", "baseline", 0, None, "overall", 9, 9, 1, 9, 1, 9, {"ROCAUC": 0.1}))
    value = gather(topics, topics, pipeline)
    assert [(row["model"], row["status"], row["proposed"]) for row in value["models"]] == [
        ("old", "champion", False),
        ("new", "challenger", True),
    ]
    assert (value["models"][0]["overall"], value["models"][0]["recent"]) == ({"ROCAUC": 0.5}, {"ROCAUC": 0.75})
    assert (value["models"][0]["n"], value["models"][0]["scored"]) == (9, 7)
    assert [row["model"] for row in value["baselines"]] == ["prior"]
    assert value["champions"][0]["model"] == "old"


def test_a_status_that_nobody_knows_ends_no_overview(pipeline: Any, topics: Topics):
    """A fact that has one is none of ours; and were there one all the same, its model would come last."""
    for version, model, what in ((1, "old", "champion"), (2, "odd", "zombie"), (2, "new", "challenger")):
        topics.put("registry", Fact(version, "registered", model, what, "old", 0, 0, None, {}, "me", "", {}))
    assert [row["model"] for row in gather(topics, topics, pipeline)["models"]] == ["old", "new"]
    seen = Seen()
    entries = {"a": {"status": "zombie", "since": 1}, "b": {"status": "retired", "since": 1}}
    seen.registries[0] = fresh() | {"models": entries}
    assert [row["model"] for row in models(seen)] == ["b", "a"]


def test_times_without_a_date_are_shown_in_milliseconds(pipeline: Any, topics: Topics):
    """An event's time may be any number of 64 bits."""
    topics.put("alerts", msgspec.structs.replace(alert("a", "opened"), opened_ms=-(2**62)))
    topics.checkpoint({"events": 1}, learned=(7, 2**62))
    text = _shown(gather(topics, topics, pipeline))
    assert "-4611686018427387904 ms" in text
    assert "labels until 4611686018427387904 ms" in text


def test_what_is_missing_is_named(pipeline: Any, topics: Topics):
    """Without some of its topics there is an overview all the same."""
    del topics.logs["small.alerts"]
    value = gather(topics, topics, pipeline)
    assert value["missing"] == ["small.alerts"]
    assert value["alerts"]["open"] == 0


def _shown(value: dict[str, Any]) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(view(value))
    return capture.get()


def test_what_others_wrote_is_shown_as_text(pipeline: Any, topics: Topics):
    """Neither markup nor a terminal's controls in an alert or a dead letter do anything."""
    topics.put("alerts", alert("a", "opened", "odd\x1b[2J", message="[red]boo[/] \x1b[31m"))
    topics.put("dead-letter", b"?", reason="null", stage="validate", topic="x", detail="[/nope] \x07")
    text = _shown(gather(topics, topics, pipeline))
    assert "[red]boo[/] \\x1b[31m" in text
    assert "[/nope] \\x07" in text
    assert "\x1b" not in text


def test_everything_has_its_place(pipeline: Any, topics: Topics):
    """Workers, the last prediction with its age, open alerts and broken laws are on the picture and in the line."""
    answer = Prediction("e1", 5_000, True, 0.75, None, None, "old/0@3", 4_000, 1_000, 0, 1, {})
    topics.put("predictions", answer)
    topics.offsets = {("small.events", 0): 0}
    topics.workers = [{"slot": "small.blue", "host": "h", "partitions": {}}]
    topics.put("alerts", alert("a", "opened", "critical"))
    topics.checkpoint({"events": 10, "features": 8, "predictions": 8})
    value = gather(topics, topics, pipeline, wall=lambda: 11.0)
    text = " ".join(_shown(value).split())
    for part in (
        "published 10.0 s ago, by old/0@3",
        "blue",
        "Open alerts: 1 critical.",
        "BROKEN: events = features + dead letters + duplicates (lane)",
        "Learned 7 examples",
    ):
        assert part in text
    line = lines(value)
    assert "open alerts 1 critical" in line
    assert "laws broken: events" in line


def test_of_several_shards_the_one_furthest_behind_is_named(pipeline: Any, topics: Topics):
    """Its figures stand for all; they would be taken for sums."""
    found = {"learned": 4, "learned_until_ms": None, "model_age_s": None, "checkpoint_age_s": 1.0, "shard": 1}
    value = gather(topics, topics, pipeline)
    for shards, said in ((1, "Learned 4 examples, "), (2, "Learned 4 examples in shard 1, the one furthest behind, ")):
        assert said in _shown(value | {"freshness": found | {"shards": shards}})


def test_a_worker_that_starts_is_no_reason_to_start_one(pipeline: Any, topics: Topics):
    """Who is a member has not committed anything yet; the advice is for when nobody is."""
    assert "start one with `headrace run`" in _shown(gather(topics, topics, pipeline))
    topics.workers = [{"slot": "small.blue", "host": "h", "partitions": {}}]
    text = _shown(gather(topics, topics, pipeline))
    assert "A worker of small is starting: it has not committed anything yet." in text
    assert "headrace run" not in text
    topics.offsets = {("small.events", 0): 0}
    assert "is starting" not in _shown(gather(topics, topics, pipeline))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, pipeline: Any, topics: Topics) -> Any:
    """Run `status --watch` over the topics for some looks; what is given is called before each wait ends."""

    def run(*args: str, during: list[Any]) -> Any:
        steps = iter(during)

        def sleep(seconds: float) -> None:
            step = next(steps, None)
            if step is None:
                raise KeyboardInterrupt
            step()

        monkeypatch.setattr(status, "Cluster", lambda *_: topics)
        monkeypatch.setattr(status.time, "sleep", sleep)
        monkeypatch.setenv("HEADRACE_BOOTSTRAP", "here:9")
        return CliRunner().invoke(main, ["status", "headrace.examples.flights:flights", "--watch", *args])

    return run


def test_a_watch_outlives_kafka(watched: Any, topics: Topics):
    """While no broker answers it says so; then it goes on, and Ctrl-C ends it as it should."""
    result = watched(
        during=[lambda: setattr(topics, "away", True), lambda: setattr(topics, "away", False)],
    )
    assert result.exit_code == 0
    assert result.stdout.count("champion") == 2
    assert result.stderr.count("No Kafka broker answers") == 1
    assert "\x1b" not in result.output


def test_a_watch_as_json_is_an_object_a_line(watched: Any, topics: Topics):
    """With Kafka away the object is the error, and what was last seen."""
    result = watched("--json", during=[lambda: setattr(topics, "away", True)])
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["pipeline"] == "flights"
    assert second["error"].startswith("No Kafka broker answers")
    assert second["last"]["pipeline"] == "flights"


def test_trouble_while_gathering_is_an_error_of_ours(pipeline: Any, topics: Topics):
    """Whoever gathers in a loop needs to catch one kind of exception only."""
    topics.away = True
    with pytest.raises(HeadraceError, match="No Kafka broker answers"):
        gather(topics, topics, pipeline)


def test_a_broker_that_goes_away_meanwhile_is_no_group_without_offsets(pipeline: Any, topics: Topics):
    """Silence after the first answer is trouble too, not a pipeline that has never run."""
    topics.offsets = {("small.events", 0): 1}

    def gone(group: str) -> dict[tuple[str, int], int]:
        topics.away = True
        return {}

    topics.committed = gone  # type: ignore[method-assign]
    with pytest.raises(HeadraceError, match="No Kafka broker answers"):
        gather(topics, topics, pipeline)


def test_junk_in_internal_topics_is_passed_over(pipeline: Any, topics: Topics):
    """Keys and values that no worker wrote, and groups of stages that are none."""
    topics.checkpoint({"events": 3, "features": 3, "predictions": 3})
    for key in (b"", b"\xc1", pack(7), pack(("lane",)), pack(("nobody", "marker")), pack(("lane", "chain", "counts"))):
        topics.put("state", b"junk", key)
    for name in ("counts", "clock", "progress"):
        for value in (b"junk", pack(7), pack((1, pack("x"))), pack((1, b"junk"))):
            topics.put("state", value, pack(("lane", "chain", name, 0)))
    topics.put("journal", b"junk", b"lane")
    topics.put("journal", write(Entry(3, 0, [0, 0], [1, 1], b"", 0, b"")), b"nobody")
    found = Seen()
    ends = {(role, 0): topics.stable(f"{NAME}.{role}", 0) for role in ("state", "journal")}
    found.look(topics, pipeline, ends, ["lane"])
    assert found.checkpoints["lane", 0]["counts"]["events"] == 3
    assert found.journals == {}
