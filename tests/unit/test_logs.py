"""Logs: for people and for machines, without secrets, and not drowned in repetitions."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.streams.logs import LEVELS, configure
from headrace.streams.masking import MASK, masked, masked_text


@pytest.fixture(autouse=True)
def root_as_it_was() -> Iterator[None]:
    """The root logger's handlers and level, as pytest set them, are there again after each test."""
    root, ours = logging.getLogger(), logging.getLogger("headrace")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def logged(**options: Any) -> io.StringIO:
    """Where the lines go."""
    stream = io.StringIO()
    configure(stream=stream, **options)
    return stream


def test_a_json_line_is_one_object():
    """Each record is one line with all that is known of it, whatever is in its message."""
    stream = logged(as_json=True, pipeline="flights", slot="0")
    logging.getLogger("headrace.runtime").warning("two\nlines and \x1b[31m a %s", "value")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "warning",
        "logger": "headrace.runtime",
        "message": "two\nlines and \x1b[31m a value",
        "pipeline": "flights",
        "slot": "0",
    }


def test_a_json_line_holds_the_traceback():
    """An exception is in the same object, its secrets masked."""
    stream = logged(as_json=True)
    try:
        raise ValueError("sasl.password=hunter2 is wrong")
    except ValueError:
        logging.getLogger("headrace.runtime").exception("failed")
    entry = json.loads(stream.getvalue())
    assert "Traceback" in entry["exception"]
    assert "hunter2" not in stream.getvalue()


def test_the_human_form_says_who_and_what():
    """Time, level, the logger without our prefix, who, the message; a second line is indented."""
    stream = logged(pipeline="flights", slot="1")
    logging.getLogger("headrace.runtime").info("one\ntwo")
    first, second = stream.getvalue().splitlines()
    assert first[12:] == "Z info    runtime [flights/1]: one"
    assert second == "    two"


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, shown: int):
    """A level shows itself and what is graver."""
    stream = logged(level=level)
    for name in LEVELS:
        getattr(logging.getLogger("headrace.x"), name)("said")
    assert stream.getvalue().count("said") == shown


def test_other_libraries_are_heard_from_warning_on():
    """Even at debug, other libraries' chatter is left out, their warnings are not."""
    stream = logged(level="debug")
    logging.getLogger("urllib3").info("chatter")
    logging.getLogger("urllib3").warning("trouble")
    assert "chatter" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


def test_an_unknown_level_is_refused():
    """The message names the legal ones."""
    with pytest.raises(ValueError, match="legal: debug, info, warning, error"):
        configure("loud")


def test_configuring_again_replaces():
    """Lines are not written twice after a second call."""
    logged()
    stream = logged()
    logging.getLogger("headrace.x").info("once")
    assert stream.getvalue().count("once") == 1


@pytest.mark.parametrize(
    "text",
    [
        "sasl.password=hunter2",
        "{'sasl.password': 'hunter2 '}",
        '{"ssl.key.password":"hunter2"}',
        "HEADRACE_KAFKA_SASL_PASSWORD=hunter2",
        "ssl.keystore.password = hunter2, x=1",
        "sasl.username: hunter2",
        'sasl.jaas.config=Login required username="a" password="hunter2";',
        "sasl.oauthbearer.client.secret=hunter2",
        "ssl.key.pem=-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
        "http://me:hunter2@host/path",
    ],
)
def test_secrets_are_masked(text: str):
    """However a secret property is written down, its value is not shown."""
    assert "hunter2" not in masked_text(text)
    assert MASK in masked_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "bootstrap.servers=localhost:9092",
        "sasl.mechanism=PLAIN",
        "ssl.ca.location=/etc/ca.pem",
        "journal record 7: ok",
        "sasl_plaintext://localhost:9092/bootstrap: Disconnected",
        "sasl_ssl://localhost:9092/bootstrap: Disconnected",
    ],
)
def test_what_is_no_secret_is_shown(text: str):
    """Masking leaves the rest readable."""
    assert masked_text(text) == text


def test_a_long_word_takes_no_longer_than_its_length() -> None:
    """Errors may quote what somebody else wrote."""
    assert masked_text("x" * 300_000) == "x" * 300_000
    assert masked_text("a-sasl.username=me headrace.sasl.password=it " + "s.-x" * 50_000).startswith(
        f"a-sasl.username={MASK} headrace.sasl.password={MASK} "
    )


def test_known_secrets_are_masked_anywhere():
    """A value that was given as a secret is not shown even where nothing names it."""
    stream = logged(kafka_config={"sasl.password": "hunter2", "client.id": "headrace"})
    logging.getLogger("headrace.kafka").warning("headrace: cannot log in with hunter2")
    assert stream.getvalue().rstrip().endswith(f"headrace: cannot log in with {MASK}")


def test_properties_can_be_shown():
    """Names stay, secret values go."""
    config = {"sasl.password": "x", "sasl.mechanism": "PLAIN", "ssl.key.location": "k", "client.id": "c"}
    assert masked(config) == {
        "sasl.password": MASK,
        "sasl.mechanism": "PLAIN",
        "ssl.key.location": MASK,
        "client.id": "c",
    }


def test_librdkafka_repeats_itself_a_few_times_only():
    """Lines that differ in numbers only are shown three times, then counted until the window has passed."""
    now = [0.0]
    stream = logged(clock=lambda: now[0])
    kafka = logging.getLogger("headrace.kafka")
    for attempt in range(20):
        kafka.warning("Connect to 127.0.0.1:9092 failed (after %dms)", attempt)
    kafka.warning("another line")
    assert stream.getvalue().count("Connect to") == 3
    assert "another line" in stream.getvalue()
    now[0] += 30
    kafka.warning("Connect to 127.0.0.1:9092 failed (after 7ms)")
    assert "(17 more like it were left out)" in stream.getvalue().splitlines()[-1]


def test_our_own_lines_are_never_left_out():
    """The rate limit is for librdkafka's lines alone."""
    stream = logged(clock=lambda: 0.0)
    for _ in range(10):
        logging.getLogger("headrace.runtime").info("said")
    assert stream.getvalue().count("said") == 10
