"""How asynchronous clients reach Kafka: librdkafka's properties in the terms of aiokafka.

One configuration serves every client of Headrace. What says who we are and how the connection is protected is
translated, what only tunes librdkafka is passed over, and anything else is refused by name: a connection that is less
safe than the configuration says must not come about in silence.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from headrace.streams.errors import UsageError
from headrace.streams.settings import Connection

__all__ = ["Clients", "clients"]

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TLS = frozenset(
    {
        "enable.ssl.certificate.verification",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.cipher.suites",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
    }
)
_KNOWN = _TLS | {
    "client.id",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
}
_TUNING = (
    *("batch.", "check.crcs", "compression.", "connections.max.idle.ms", "debug", "delivery.timeout.ms", "fetch."),
    *("heartbeat.interval.ms", "linger.ms", "log", "max.in.flight", "max.partition.fetch.bytes", "max.poll."),
    *("message.", "metadata.max.age.ms", "queue.", "queued.", "receive.message.max.bytes", "reconnect.", "request."),
    *(
        "retries",
        "retry.",
        "session.timeout.ms",
        "socket.",
        "statistics.",
        "sticky.",
        "topic.metadata.",
        "transaction.",
    ),
)
"""Beginnings of properties that change no peer, no name and no protection."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The arguments of every asynchronous client of one cluster; `repr` shows none of them."""

    bootstrap: str
    protection: Mapping[str, Any] = field(repr=False)
    client_id: str = "headrace-control"

    def aiokafka(self) -> dict[str, Any]:
        """Arguments of `AIOKafkaConsumer` and `AIOKafkaProducer`."""
        return {"bootstrap_servers": self.bootstrap, "client_id": self.client_id, **self.protection}


def clients(connection: Connection) -> Clients:
    """The arguments that this connection comes to; UsageError names what cannot be translated."""
    config = dict(connection.config)
    for name in sorted(config):
        if name not in _KNOWN and not name.startswith(_TUNING):
            raise UsageError(
                f"Asynchronous clients cannot use the Kafka property {name}: leave it out of the configuration that "
                "`headrace control` is given, or open an issue."
            )
    protocol = config.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        raise UsageError(f"security.protocol is {protocol!r}; asynchronous clients know {', '.join(_PROTOCOLS)}.")
    protection: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        protection["ssl_context"] = _tls(config)
    if protocol.startswith("SASL"):
        protection |= _sasl(config)
    return Clients(connection.bootstrap, protection, config.get("client.id", "headrace-control"))


def _sasl(config: Mapping[str, str]) -> dict[str, Any]:
    mechanism = (config.get("sasl.mechanism") or config.get("sasl.mechanisms") or "GSSAPI").upper()
    if mechanism not in _MECHANISMS:
        raise UsageError(f"sasl.mechanism is {mechanism}; asynchronous clients know {', '.join(_MECHANISMS)}.")
    missing = [name for name in ("sasl.username", "sasl.password") if not config.get(name)]
    if missing:
        raise UsageError(f"{mechanism} needs {' and '.join(missing)} in the Kafka configuration.")
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": config["sasl.username"],
        "sasl_plain_password": config["sasl.password"],
    }


def _tls(config: Mapping[str, str]) -> ssl.SSLContext:
    """The context that the ``ssl.*`` properties describe; as librdkafka, it verifies unless told otherwise."""
    try:
        context = ssl.create_default_context()
        if "ssl.ca.location" in config or "ssl.ca.pem" in config:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            place, text = config.get("ssl.ca.location"), config.get("ssl.ca.pem")
            folder = place is not None and Path(place).is_dir()
            context.load_verify_locations(
                cafile=None if folder else place, capath=place if folder else None, cadata=_lines(text)
            )
        if config.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
            context.check_hostname = False
        if config.get("enable.ssl.certificate.verification", "true").lower() == "false":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if "ssl.cipher.suites" in config:
            context.set_ciphers(config["ssl.cipher.suites"])
        _certificate(context, config)
    except (OSError, ssl.SSLError, ValueError) as error:
        named = ", ".join(sorted(_TLS & config.keys())) or "its defaults"
        raise UsageError(
            f"Asynchronous clients cannot use the TLS configuration ({named}): {_plain(error)}."
        ) from error
    return context


def _certificate(context: ssl.SSLContext, config: Mapping[str, str]) -> None:
    """Our own certificate and key; text among the properties goes by way of a file that only we can read."""
    password = config.get("ssl.key.password", "")
    file, key = config.get("ssl.certificate.location"), config.get("ssl.key.location")
    pem = [config[name] for name in ("ssl.key.pem", "ssl.certificate.pem") if name in config]
    if pem:
        with NamedTemporaryFile("w", suffix=".pem") as both:
            both.write("\n".join(_lines(part) or "" for part in pem))
            both.flush()
            context.load_cert_chain(both.name, None, password=lambda: password)
    elif file is not None:
        context.load_cert_chain(file, key, password=lambda: password)


def _lines(pem: str | None) -> str | None:
    """PEM text as it is; a properties file has it on one line, with the line feeds written out."""
    return None if pem is None else pem.replace("\\n", "\n")


def _plain(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
