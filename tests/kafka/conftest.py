"""One broker for the session, and worlds on it with names of their own."""

from __future__ import annotations

import gc
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.deploy import broker
from headrace.streams.kafka import Cluster
from tests.faults.harness import FLIGHTS, World


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A broker of this session's own, with empty data, stopped and removed at the end."""
    instance = f"tests-{os.getpid()}"
    cluster = Cluster(str(broker.start(instance=instance, fresh=True, progress=False).bootstrap))
    try:
        yield cluster
    finally:
        cluster._admin = None  # a client with a request under way does not end once its broker is gone
        broker.stop(instance=instance)


@pytest.fixture
def make_world(cluster: Cluster, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Makes pipelines whose topics are named by test and chance; their workers are ended afterwards."""
    made: list[World] = []

    def make(reference: str = FLIGHTS, **more: Any) -> World:
        test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
        made.append(World.make(cluster, reference, f"{test}-{uuid.uuid4().hex[:8]}", tmp_path, **more))
        return made[-1]

    yield make
    for world in made:
        world.remove()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """aiokafka leaves a connection unclosed now and then when its broker goes away; nothing of ours holds it.

    It may be found in any later test here, however soon it is looked for.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            if item.path.stem.startswith(("test_control", "test_monitoring")):
                item.add_marker(pytest.mark.usefixtures("collected"))


@pytest.fixture
def collected() -> Iterator[None]:
    """What a test leaves behind is collected with it, so that no later test is blamed."""
    yield
    gc.collect()
