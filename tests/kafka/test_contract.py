"""What docs/topics.md tells producers and consumers to do works, against a real broker and a real worker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import World

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "topics.md").read_text(encoding="utf-8")


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The example pipeline under a name of its own, with a worker that runs."""
    world = make_world()
    world.spawn()
    return world


def block(language: str, containing: str, world: World) -> str:
    """A code block of the page, for this world's topics."""
    found = [text for text in re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S) if containing in text]
    assert len(found) == 1
    return found[0].replace("flights.", f"{world.pipeline.name}.").replace("gate-display", f"{world.pipeline.name}-app")


def environment(world: World) -> dict[str, str]:
    """This process's, with the broker's address."""
    return {**os.environ, "HEADRACE_BOOTSTRAP": world.bootstrap, "PYTHONUNBUFFERED": "1"}


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed (Debian: apt install kcat)")
def test_kcat_publishes_an_event_and_reads_its_prediction(world: World):
    """The page's shell lines print the prediction of the event that they published, and nothing else."""
    lines = block("sh", "kcat -P", world)
    done = subprocess.run(["bash", "-c", lines], env=environment(world), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (prediction,) = (json.loads(line) for line in done.stdout.splitlines())
    assert prediction["event_id"] == "my-1"
    assert prediction["reason"] == "untrained"
    assert prediction["columns"] == {"carrier": "B6", "origin": "JFK", "dest": "FLL"}


def test_the_python_consumer_prints_predictions(world: World):
    """The page's Python, as it stands, prints key, id and probability of each prediction."""
    (event,) = re.findall(r"^echo '(.*)' \|$", TEXT, re.MULTILINE)
    producer = world.cluster.plain_producer()
    producer.produce(world.topic("events"), event.encode(), b"JFK", 0)
    assert producer.flush(30) == 0
    program = block("python", "consumer.poll", world)
    consumer = subprocess.Popen(
        [sys.executable, "-c", program], env=environment(world), stdout=subprocess.PIPE, text=True
    )
    limit = threading.Timer(60, consumer.kill)
    limit.start()
    try:
        assert consumer.stdout is not None
        assert consumer.stdout.readline() == "JFK my-1 None\n"
    finally:
        limit.cancel()
        consumer.kill()
        consumer.communicate()
