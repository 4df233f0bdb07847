"""Versions, keys and explanations from the command line, on a real broker."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

from tests.kafka.test_cli import Shell, published, shell  # noqa: F401 - fixtures


def test_versions_are_listed_rebuilt_compared_and_exported(published: Shell, tmp_path: Path):  # noqa: F811
    """A version is what the log makes; a tampered one is refused with its reason, rebuilt, and published anew."""
    one = published
    one("run", "P", "--until-caught-up")
    version = [v for v in one.json("models", "P", "versions")["versions"] if v["name"] == "logreg"][-1]
    name = version["version"]
    assert (version["refused"], version["name"], name) == (None, "logreg", f"logreg/0@{version['n']}")

    made = one.json("models", "P", "rebuild", name)
    assert (made["same"], made["way"], made["state"], made["different"]) == (True, "examples", version["state"], 0)
    assert one.json("models", "P", "rebuild", "logreg", "--replay")["same"] is True
    assert "Published state" in one("models", "P", "rebuild", name)
    assert "did not come past it" in one("models", "P", "rebuild", f"logreg@{10**9}", "--replay", code=1)
    older = one.json("models", "P", "rebuild", f"logreg@{version['n'] - 100}", "--publish")
    assert (older["same"], older["republished"]) == (None, True)

    found = one.json("models", "P", "diff", f"logreg@{version['n'] - 100}", name)
    assert found["different"] > 0
    assert 0 < found["answers"]["mean"] <= found["answers"]["largest"] < 1
    assert one.json("models", "P", "diff", name, name)["different"] == 0

    one("models", "P", "export", name, str(tmp_path / "model.pickle"), "--pickle")
    one("models", "P", "export", name, str(tmp_path / "model.snapshot"))
    model = pickle.loads((tmp_path / "model.pickle").read_bytes())
    assert model.predict_one({"distance": 100.0, "origin_flights_1h": 1}) in (True, False)
    assert b"HRSNAP1" in (tmp_path / "model.snapshot").read_bytes()[:8]

    producer = one.cluster.plain_producer()
    producer.produce(f"{one.name}.models", b"not a snapshot", f"{name}#0".encode(), 0)
    assert producer.flush(10) == 0
    assert "incomplete" in one("models", "P", "versions", code=1)
    refused = one.json("models", "P", "rebuild", name, "--publish", code=1)
    assert (refused["republished"], refused["state"]) == (True, version["state"])
    assert one.json("models", "P", "rebuild", name)["same"] is True
    assert "names no version" in one("models", "P", "rebuild", "other@3", code=2)


def test_an_event_is_explained(published: Shell):  # noqa: F811
    """From its bytes to the version that learned it, with nothing that differs; an unknown one is said to be that."""
    one = published
    one("run", "P", "--until-caught-up")
    lines = one("tail", "P", "predictions", "--from-beginning", "-n", "40", "--json").splitlines()
    event_id = json.loads(lines[20])["value"]["event_id"]
    told = one.json("explain", "P", event_id)
    assert (told["different"], len(told["events"]), told["features"].keys()) == (
        0, 1, {"distance", "origin_flights_1h"}
    )  # fmt: skip
    assert json.loads(told["events"][0]["value"])["event_id"] == event_id
    assert "the same bytes" in one("explain", "P", event_id)
    assert "No event 'nobody' was read" in one("explain", "P", "nobody", code=1)


def test_keys_are_shown_renewed_and_trusted(shell: Shell, tmp_path: Path):  # noqa: F811
    """A new key leaves the old one trusted; another's public key is trusted, and no longer when it is removed."""
    before = shell.json("keys", "show")
    new = shell.json("keys", "new", "--yes")
    assert new["before"] == before["id"] != new["id"]
    after = shell.json("keys", "show")
    assert set(after["trusted"]) == {before["id"], new["id"]}
    assert Path(after["file"]).stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other.pem"
    other.write_text(before["public"])
    assert shell.json("keys", "trust", before["id"], "--remove")["trusted"] is False
    assert shell.json("keys", "show")["trusted"] == [new["id"]]
    assert shell.json("keys", "trust", str(other))["id"] == before["id"]
    assert "PRIVATE" not in shell("keys", "show")
    assert "no public key" in shell("keys", "trust", after["file"], code=2)
