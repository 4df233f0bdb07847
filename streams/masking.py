"""Masking: what may be shown of Kafka properties, and of text that may quote them.

Names decide: whatever is called a password, a secret, a token or a credential, and all of SASL and TLS keys but a few
harmless ones, user names included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["MASK", "masked", "masked_text", "secrets_of"]

MASK = "****"

_PUBLIC = (
    *("sasl.plaintext", "sasl.ssl"),  # which are protocols, in front of an address
    *("sasl.mechanism", "sasl.mechanisms", "sasl.kerberos.service.name"),
    *("ssl.key.type", "ssl.keystore.type", "ssl.keystore.location"),
)
_SECRET = re.compile(r"(?i)password|passwd|secret|token|credential|^sasl\.|^ssl\.key|jaas")
_NAME = (  # each way begins where a word does, or a long word would be tried from each of its letters
    r"(?:(?<![\w.-])[\w.-]*(?:password|passwd|secret|token|credential|jaas)[\w.-]*"
    r"|(?<!\w)\w*sasl[._][\w.-]+|(?<!\w)\w*ssl[._]key[\w.-]*)"
)
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;})\]"']+)"""
_ASSIGNED = re.compile(rf"""(?i)(?P<head>(?P<name>{_NAME})["']?\s*[=:]\s*)(?P<value>{_VALUE})""")
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)
_USERINFO = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")


def masked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as they may be shown."""
    return {name: MASK if _is_secret(name) else value for name, value in config.items()}


def secrets_of(config: Mapping[str, Any]) -> list[str]:
    """The values of properties that may not be shown."""
    return [str(value) for name, value in config.items() if _is_secret(name)]


def masked_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Text as it may be shown: values that are assigned to secret names, PEM blocks, and `secrets` themselves."""
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, MASK)
    text = _PEM.sub(MASK, text)
    text = _USERINFO.sub(MASK, text)
    return _ASSIGNED.sub(_mask, text)


def _is_secret(name: str) -> bool:
    plain = name.lower().removeprefix("headrace_kafka_").replace("_", ".")
    return plain not in _PUBLIC and _SECRET.search(plain) is not None


def _mask(match: re.Match[str]) -> str:
    return f"{match['head']}{MASK}" if _is_secret(match["name"]) else match[0]
