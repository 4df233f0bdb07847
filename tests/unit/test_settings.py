"""How clients are configured: the address, the properties, and their secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.streams.errors import UsageError
from headrace.streams.kafka import Cluster
from headrace.streams.settings import Connection, connection, environment_properties, read_properties


def properties(folder: Path, text: str) -> Path:
    """A properties file."""
    path = folder / "client.properties"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("option", "environ", "file", "expected"),
    [
        ("a:1", {"HEADRACE_BOOTSTRAP": "b:1"}, "bootstrap.servers=d:1", "a:1"),
        (None, {"HEADRACE_BOOTSTRAP": "b:1", "HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "c:1"}, "", "b:1"),
        (None, {"HEADRACE_KAFKA_BOOTSTRAP_SERVERS": "c:1"}, "bootstrap.servers=d:1", "c:1"),
        (None, {}, "bootstrap.servers=d:1", "d:1"),
        (None, {}, "", "local:1"),
    ],
)
def test_the_address_is_the_most_specific_one(
    tmp_path: Path, option: str | None, environ: dict[str, str], file: str, expected: str
):
    """Option before variable before property before the local broker; the properties do not keep it."""
    found = connection(option, properties(tmp_path, file), environ, lambda: "local:1")
    assert (found.bootstrap, dict(found.config)) == (expected, {})


def test_a_named_address_starts_no_search_for_a_local_broker():
    """The local broker is not even asked for when an address is given."""

    def local() -> str:
        raise AssertionError("asked")

    assert connection("a:1", None, {}, local).bootstrap == "a:1"


def test_no_address_at_all_says_what_to_do():
    """Without any address the message names the command, the option and the variable."""
    with pytest.raises(UsageError, match=r"headrace broker start.*--bootstrap or HEADRACE_BOOTSTRAP"):
        connection(None, None, {})


@pytest.mark.parametrize("name", ["HEADRACE_BOOTSTRP", "HEADRACE_BOOTSTRAP_SERVERS"])
def test_a_variable_that_is_misspelt_is_not_taken_for_the_local_broker(name: str):
    """Unless the address is named in another way."""
    with pytest.raises(UsageError, match=f"^{name} is no variable .* HEADRACE_BOOTSTRAP that names one"):
        connection(None, None, {name: "prod:9092"}, lambda: "127.0.0.1:9092")
    assert connection("other:9092", None, {name: "prod:9092"}).bootstrap == "other:9092"
    assert connection(None, None, {"KAFKA_BOOTSTRAP_SERVERS": "x"}, lambda: "127.0.0.1:9092").bootstrap
    for empty in (name, "HEADRACE_BOOTSTRAP"):
        assert connection(None, None, {empty: ""}, lambda: "127.0.0.1:9092").bootstrap == "127.0.0.1:9092"


def test_variables_are_properties():
    """Underscores are dots, two are one underscore; empty ones and the file's own variable are none."""
    environ = {
        "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SSL",
        "HEADRACE_KAFKA_LOG__LEVEL": "7",
        "HEADRACE_KAFKA_SSL_CA_LOCATION": "",
        "HEADRACE_KAFKA_CONFIG": "/etc/kafka",
        "HEADRACE_KAFKA_": "x",
        "HEADRACE_OTHER": "x",
    }
    assert environment_properties(environ) == {"security.protocol": "SSL", "log_level": "7"}


def test_variables_win_over_the_file(tmp_path: Path):
    """A property in both is the variable's; the file may be named by a variable too."""
    file = properties(tmp_path, "client.id=file\nsasl.username=file")
    environ = {"HEADRACE_KAFKA_CONFIG": str(file), "HEADRACE_KAFKA_CLIENT_ID": "variable"}
    found = connection("a:1", None, environ)
    assert dict(found.config) == {"client.id": "variable", "sasl.username": "file"}


def test_a_file_is_read_as_properties(tmp_path: Path):
    """Comments, empty lines and blanks around names and values are no part of it; a value may hold an equals sign."""
    file = properties(tmp_path, "# note\n\n! note\n a.b = c=d \nempty=\n")
    assert read_properties(file) == {"a.b": "c=d", "empty": ""}


def test_a_wrong_line_is_named_but_not_shown(tmp_path: Path):
    """The message holds file and line number, and nothing of a line that may be a secret."""
    with pytest.raises(UsageError, match=r"client\.properties.*line 2: expected key=value") as caught:
        read_properties(properties(tmp_path, "a=b\nhunter2\n"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_bytes(b"\xff\xfe=\x00")])
def test_an_unreadable_file_is_one_sentence(tmp_path: Path, make):
    """A missing file and one that is no text are each a usage error that names it."""
    path = tmp_path / "client.properties"
    make(path)
    with pytest.raises(UsageError, match=r"client\.properties"):
        read_properties(path)


@pytest.mark.parametrize("name", ["HEADRACE_KAFKA_ACKS", "HEADRACE_KAFKA_ISOLATION_LEVEL", "HEADRACE_KAFKA_GROUP_ID"])
def test_what_exactly_once_depends_on_cannot_be_set(name: str):
    """A property that would break the promises is refused by its name."""
    with pytest.raises(UsageError, match=name[15:].lower().replace("_", r"\.")):
        connection("a:1", None, {name: "0"})


def test_another_process_gets_the_same_properties_and_no_others():
    """By its environment; what was set there for another connection does not reach it, other variables do."""
    config = {"sasl.password": "hunter2", "log_level": "7"}
    before = {"HEADRACE_KAFKA_CONFIG": "/etc/kafka", "HEADRACE_KAFKA_SECURITY_PROTOCOL": "SSL", "HOME": "/root"}
    environ = Connection("a:1", config).environment(before)
    assert connection("a:1", None, environ) == Connection("a:1", config)
    assert Connection("a:1").environment(before) == {"HOME": "/root"}


def test_secrets_are_not_shown():
    """Neither the repr nor a redacted message holds the value of a password, key or token."""
    secret = {"sasl.password": "hunter2", "ssl.key.pem": "-----BEGIN", "sasl.oauthbearer.client.secret": "quiet!"}
    where = Connection("a:1", secret | {"client.id": "ann"})
    said = repr(where) + where.redacted(f"refused: {' '.join(secret.values())}")
    assert not any(value in said for value in secret.values())
    assert "ann" in said


def test_the_properties_reach_every_client(monkeypatch: pytest.MonkeyPatch):
    """Consumer, transactional and plain producer, reader and admin are each made with the given property."""
    made: list[dict[str, object]] = []

    class Client:
        def __init__(self, config: dict[str, object], **_: object) -> None:
            made.append(config)

        def __getattr__(self, name: str):
            return lambda *args, **kwargs: None

    places = ("cluster.AdminClient", "cluster.Producer")
    for place in (*places, "consumer.Consumer", "producer.Producer", "reader.Consumer"):
        monkeypatch.setattr(f"headrace.streams.kafka.{place}", Client)
    environ = {"HEADRACE_KAFKA_SASL_USERNAME": "ann", "HEADRACE_KAFKA_COMPRESSION_TYPE": "gzip"}
    cluster = Cluster("a:1", connection("a:1", None, environ).config)
    cluster.consumer("g", "0", gather_s=0.02, on_assign=print, on_revoke=print)
    cluster.producer("t")
    cluster.plain_producer()
    cluster.reader()._reading("uncommitted")
    assert cluster.admin
    cluster.check()
    assert len(made) == 7
    given = ("sasl.username", "bootstrap.servers", "compression.type")
    assert [tuple(config[name] for name in given) for config in made] == [("ann", "a:1", "gzip")] * 7


def test_a_property_that_the_client_does_not_know_is_named():
    """A misspelt property is a usage error with its name, not a traceback."""
    with pytest.raises(UsageError, match=r"no\.such"):
        Cluster("127.0.0.1:1", {"no.such": "1"}).check()
