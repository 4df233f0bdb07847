"""Requests to addresses that an operator has named, and to nothing that they lead to.

An address is checked where it counts: at the socket that is about to be connected, whatever a name resolved to.
Private, loopback, link-local and otherwise special addresses are refused unless they are allowed, in each of the forms
in which IPv6 can hold an IPv4 address. Redirects are not followed, proxies of the environment are not asked, cookies
are not kept, answers are not read beyond their head, and everything ends within a time. No URL is ever shown: its path
may be the secret.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from headrace import __version__
from headrace.streams.errors import UsageError

__all__ = ["Answer", "Failed", "Outside", "Target", "is_private", "target"]

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_EMBEDDED = (
    (ipaddress.IPv6Network("64:ff9b:1::/48"), 0),  # NAT64 of a network's own
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
)
"""IPv6 networks whose addresses hold an IPv4 address, and how many bits are behind it."""
_WRONG = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_LONGEST = 2_000
_PRIVATE = "it is at a private address, which is not allowed (--allow-private)"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Failed(Exception):
    """It was not delivered. `final`: the receiver has refused this very record; `after_s`: it asks to wait so long."""

    def __init__(self, why: str, *, final: bool = False, after_s: float | None = None) -> None:
        super().__init__(why)
        self.final, self.after_s = final, after_s


@dataclass(frozen=True, slots=True)
class Target:
    """An address that requests may go to; shown as its host alone."""

    url: URL = field(repr=False)
    name: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer."""

    status: int
    retry_after_s: float | None


def target(text: str, what: str, *, allow_private: bool = False, token: str | None = None) -> Target:
    """The address that somebody gave for `what`; UsageError says what is wrong with it, and never repeats it."""
    if _WRONG.search(text) or len(text) > _LONGEST:
        raise UsageError(f"{what} must be one URL without spaces or control characters, of at most {_LONGEST} letters.")
    try:
        url = URL(text)
        port = url.port
    except ValueError as error:
        raise UsageError(f"{what} is no URL: give it as https://host/path.") from error
    if url.scheme not in ("http", "https") or not url.host or port is None or not 0 < port < 65_536:
        raise UsageError(f"{what} must be an http:// or https:// URL with a host.")
    if url.user is not None or url.password is not None:
        raise UsageError(f"{what} holds a user or password: give a token in the environment instead.")
    if url.fragment:
        raise UsageError(f"{what} has a fragment (#...), which is never sent: leave it out.")
    if token is not None and (_WRONG.search(token) or not token.isascii() or not token):
        raise UsageError(f"The token for {what} must be one word of ASCII.")
    if token is not None and url.scheme == "http" and not allow_private:
        raise UsageError(f"{what} would send its token unprotected: use https://, or --allow-private at home.")
    literal = _literal(url.host)
    if literal is not None and not allow_private and is_private(literal):
        raise UsageError(f"{what} is at a private address ({literal}): add --allow-private if that is meant.")
    host = f"[{url.host}]" if ":" in url.host else url.host
    return Target(url, f"{host}:{port}", token)


def is_private(address: str | Address) -> bool:
    """Whether an address is anything but one of the public Internet, itself or by what it holds."""
    ip = ipaddress.ip_address(str(address).partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None or ip in _NAT64:
            return is_private(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        inner = [ipaddress.IPv4Address(int(ip) >> shift & 0xFFFFFFFF) for within, shift in _EMBEDDED if ip in within]
        if ip.is_site_local or any(is_private(each) for each in (*inner, *(ip.teredo or ()))):
            return True
    return not ip.is_global or ip.is_multicast or ip.is_reserved


class Outside:
    """Posts to targets. `resolver` finds addresses by name; tests give one of their own."""

    def __init__(
        self, *, allow_private: bool = False, timeout_s: float = 10.0, resolver: AbstractResolver | None = None
    ) -> None:
        self._allow_private, self._timeout_s = allow_private, timeout_s
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def post(self, to: Target, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Post JSON and return the head of the answer; `Failed` when none comes."""
        told = {"Content-Type": "application/json", **(headers or {})}
        if to.token is not None:
            told["Authorization"] = f"Bearer {to.token}"
        try:
            async with self._open().post(to.url, data=body, headers=told, allow_redirects=False) as answer:
                found = Answer(answer.status, _seconds(answer.headers.get("Retry-After")))
                answer.close()  # whatever else it says is not read
                return found
        except TimeoutError:
            raise Failed(f"no answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failed(_reason(error)) from None

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver or aiohttp.ThreadedResolver(),
                use_dns_cache=False,
                force_close=True,
                limit_per_host=4,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                headers={"User-Agent": f"headrace/{__version__}", "Accept-Encoding": "identity"},
                trust_env=False,
            )
        return self._session

    def _socket(self, found: tuple[Any, ...]) -> socket.socket:
        """A socket for an address that was resolved, if it may be connected to."""
        family, kind, protocol, _, place = found
        if not self._allow_private and is_private(place[0]):
            raise OSError(errno.EACCES, _PRIVATE)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _literal(host: str) -> Address | None:
    """The address that a host is, also in the forms that only the C library reads (127.1, 0x7f000001)."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    if re.fullmatch(r"(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+)){0,3}\.?", host.lower()):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host.rstrip(".")))
        except OSError:
            return None
    return None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"[0-9]{1,6}", text) else None


def _reason(error: Exception) -> str:
    """What went wrong, without the URL that the library's own words may hold."""
    cause = error.__cause__ or error
    if isinstance(cause, asyncio.IncompleteReadError | aiohttp.ServerDisconnectedError):
        return "the connection was closed without an answer"
    if _PRIVATE in str(cause):
        return _PRIVATE
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({cause.verify_message})"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not answer as a web server does"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(error).__name__
