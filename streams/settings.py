"""How clients reach Kafka: the bootstrap address, and properties from a file and the environment.

Whatever librdkafka understands can be given (TLS, SASL, timeouts), and reaches every client. Later wins:

1. ``--kafka-config FILE`` (or ``HEADRACE_KAFKA_CONFIG``): a properties file, ``key=value`` a line
2. ``HEADRACE_KAFKA_*``: ``HEADRACE_KAFKA_SECURITY_PROTOCOL`` is ``security.protocol``, two underscores are one
3. ``--bootstrap`` (or ``HEADRACE_BOOTSTRAP``), for the address alone

Values of secrets are never shown: not in a message, not in a repr.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from headrace.streams.errors import UsageError
from headrace.streams.masking import masked, masked_text, secrets_of

__all__ = [
    "BOOTSTRAP_VARIABLE",
    "FILE_VARIABLE",
    "Connection",
    "connection",
    "environment_properties",
    "named",
    "read_properties",
]

BOOTSTRAP_VARIABLE = "HEADRACE_BOOTSTRAP"
FILE_VARIABLE = "HEADRACE_KAFKA_CONFIG"

_PREFIX = "HEADRACE_KAFKA_"
_BOOTSTRAP = "bootstrap.servers"
_ALIKE = 0.8
"""From which likeness on a variable is taken for one that was misspelt."""
_OURS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "isolation.level",
        "partition.assignment.strategy",
        "partitioner",
        "request.required.acks",
        "transactional.id",
    }
)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the cluster is, and the properties of every client of it."""

    bootstrap: str
    config: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Connection({self.bootstrap!r}, {masked(self.config)})"

    def redacted(self, text: str) -> str:
        """`text` without the secrets of this connection, nor anything else that looks like one."""
        return masked_text(text, secrets_of(self.config))

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """`environ` for a process with this connection's properties and no others: none stands on a command line."""
        others = {name: value for name, value in environ.items() if not name.startswith(_PREFIX)}
        return others | {_variable(name): value for name, value in self.config.items()}


def connection(
    bootstrap: str | None,
    file: str | Path | None,
    environ: Mapping[str, str],
    local: Callable[[], str | None] = lambda: None,
) -> Connection:
    """The connection that these options and this environment ask for.

    Without an address, `local` is asked for a broker on this machine; UsageError says how to name one. A name that is
    misspelt is one as well: the local broker is not what was meant.
    """
    address, config = named(bootstrap, file, environ)
    forbidden = sorted(_OURS & config.keys())
    if forbidden:
        raise UsageError(
            f"Exactly-once depends on {', '.join(forbidden)}, which Headrace sets itself: leave it out of the client "
            "configuration."
        )
    filled = [name for name, value in environ.items() if value]  # an empty one is as if unset
    misspelt = [] if address else get_close_matches(BOOTSTRAP_VARIABLE, filled, 1, _ALIKE)
    if misspelt:
        raise UsageError(
            f"{misspelt[0]} is no variable of Headrace's, and no cluster is named: it is {BOOTSTRAP_VARIABLE} that "
            "names one."
        )
    address = address or local()
    if not address:
        raise UsageError(
            "No Kafka broker is named and no local one runs: start one with `headrace broker start`, or name yours "
            f"with --bootstrap or {BOOTSTRAP_VARIABLE}."
        )
    return Connection(address, config)


def named(
    bootstrap: str | None, file: str | Path | None, environ: Mapping[str, str]
) -> tuple[str | None, dict[str, str]]:
    """The address that somebody named, if anybody did, and the other properties."""
    file = file or environ.get(FILE_VARIABLE) or None
    config = ({} if file is None else read_properties(Path(file))) | environment_properties(environ)
    property_ = config.pop(_BOOTSTRAP, None)
    return bootstrap or environ.get(BOOTSTRAP_VARIABLE) or property_ or None, config


def read_properties(path: Path) -> dict[str, str]:
    """The properties in a file; UsageError names the file and the line, never what stands there."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path} (--kafka-config).") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} (--kafka-config) cannot be read as text.") from error
    out: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#!":
            continue
        name, equals, value = stripped.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{path} (--kafka-config), line {number}: expected key=value.")
        out[name.strip()] = value.strip()
    return out


def environment_properties(environ: Mapping[str, str]) -> dict[str, str]:
    """The properties that `HEADRACE_KAFKA_*` variables hold; empty ones are as if unset."""
    return {
        _property(name[len(_PREFIX) :]): value
        for name, value in environ.items()
        if name.startswith(_PREFIX) and name != FILE_VARIABLE and len(name) > len(_PREFIX) and value
    }


def _property(name: str) -> str:
    return name.lower().replace("__", "\0").replace("_", ".").replace("\0", "_")


def _variable(name: str) -> str:
    return _PREFIX + name.upper().replace("_", "__").replace(".", "_")
