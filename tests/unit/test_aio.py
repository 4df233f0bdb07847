"""librdkafka's properties in the terms of aiokafka and Faust."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.streams.control.app import connection
from headrace.streams.errors import UsageError
from headrace.streams.kafka.aio import clients
from headrace.streams.settings import Connection

PASSWORD = "dahlia-47-quarry"


def made(**config: str) -> dict:
    """aiokafka's arguments of a configuration, with dots for underscores in its names."""
    properties = {name.replace("_", "."): value for name, value in config.items()}
    return clients(Connection("one:9092,two:9093", properties)).aiokafka()


@pytest.fixture
def pem(tmp_path: Path) -> tuple[str, str]:
    """A certificate that signs itself, and its key, as text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    day = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(day - datetime.timedelta(9999)).not_valid_after(day)
    signed = builder.add_extension(x509.BasicConstraints(True, None), critical=True).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return signed.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def test_without_properties_it_is_plain():
    """An address alone is a connection without protection."""
    found = clients(Connection("one:9092,two:9093", {}))
    assert found.aiokafka() == {
        "bootstrap_servers": "one:9092,two:9093",
        "client_id": "headrace-control",
        "security_protocol": "PLAINTEXT",
    }
    assert connection(found)["broker"] == ["aiokafka://one:9092", "aiokafka://two:9093"]
    assert connection(found)["broker_credentials"] is None


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_user_and_password_reach_both(mechanism: str):
    """SASL in aiokafka's terms and in Faust's, which hands the same on."""
    config = {"security.protocol": "sasl_plaintext", "sasl.mechanisms": mechanism, "sasl.username": "ana"}
    found = clients(Connection("one:9092", config | {"sasl.password": PASSWORD}))
    told = found.aiokafka()
    assert (told["security_protocol"], told["sasl_mechanism"]) == ("SASL_PLAINTEXT", mechanism)
    assert (told["sasl_plain_username"], told["sasl_plain_password"]) == ("ana", PASSWORD)
    credentials = connection(found)["broker_credentials"]
    assert (credentials.mechanism.value, credentials.username, credentials.password) == (mechanism, "ana", PASSWORD)
    assert credentials.protocol.value == "SASL_PLAINTEXT"
    assert PASSWORD not in repr(found)


def test_tls_verifies_unless_it_is_told_otherwise():
    """librdkafka's defaults, and its two ways of not checking."""
    context = made(security_protocol="SSL")["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    context = made(security_protocol="SSL", ssl_endpoint_identification_algorithm="none")["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_REQUIRED)
    context = made(security_protocol="SSL", enable_ssl_certificate_verification="false")["ssl_context"]
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)


def test_an_authority_replaces_those_of_the_system(pem: tuple[str, str], tmp_path: Path):
    """As a file or as text, with line feeds written out: only that one is trusted."""
    file = tmp_path / "ca.pem"
    file.write_text(pem[0])
    for config in ({"ssl_ca_location": str(file)}, {"ssl_ca_pem": pem[0].replace("\n", "\\n")}):
        context = made(security_protocol="SSL", **config)["ssl_context"]
        assert [dict(name[0] for name in ca["subject"]) for ca in context.get_ca_certs()] == [{"commonName": "test"}]


def test_a_certificate_of_our_own_is_loaded(pem: tuple[str, str], tmp_path: Path):
    """From files, or from text; a key that is not its own is one sentence without the key."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_text(pem[0])
    key.write_text(pem[1])
    made(security_protocol="SSL", ssl_certificate_location=str(certificate), ssl_key_location=str(key))
    made(security_protocol="SSL", ssl_certificate_pem=pem[0], ssl_key_pem=pem[1])
    with pytest.raises(UsageError, match=r"TLS configuration \(ssl.certificate.location\)"):
        made(security_protocol="SSL", ssl_certificate_location=str(certificate))
    with pytest.raises(UsageError, match=r"ssl\.key\.pem") as caught:
        made(security_protocol="SSL", ssl_certificate_pem=pem[0], ssl_key_pem="-----BEGIN " + PASSWORD)
    assert PASSWORD not in str(caught.value)


def test_what_only_tunes_librdkafka_is_passed_over():
    """A file that workers use need not be cut down for the control plane."""
    assert made(linger_ms="5", socket_timeout_ms="1", statistics_interval_ms="1", debug="all") == made()


@pytest.mark.parametrize(
    "name", ["sasl.oauthbearer.config", "ssl.keystore.location", "broker.address.family", "client.rack", "x"]
)
def test_what_cannot_be_translated_is_named(name: str):
    """Never dropped in silence: it may be what makes the connection safe."""
    with pytest.raises(UsageError, match=f"cannot use the Kafka property {name}:") as caught:
        clients(Connection("one:9092", {name: PASSWORD}))
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"security.protocol": "tls"}, "security.protocol is 'TLS'"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "sasl.mechanism is GSSAPI"),
        ({"security.protocol": "SASL_SSL"}, "sasl.mechanism is GSSAPI"),
        ({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, "sasl.username and sasl.password"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere"}, "ssl.ca.location.*No such file"),
    ],
)
def test_what_cannot_be_is_one_sentence(config: dict[str, str], said: str):
    """Protocols and mechanisms that it does not know, and files that are not there."""
    with pytest.raises(UsageError, match=said):
        clients(Connection("one:9092", config))
