"""Where alerts may go: addresses, redirects, secrets, and receivers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from headrace.streams.control.outside import Answer, Failed, Outside, _reason, is_private, target
from headrace.streams.control.routes import answered
from headrace.streams.errors import UsageError

SECRET = "T0KEN-in-the-path"
PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("169.254.169.254", "100.64.0.1", "100.127.255.255", "0.0.0.0", "0.1.2.3", "192.0.0.1", "192.0.2.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *(
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "2001:db8::1",
    ),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::127.0.0.1", "::10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:1::"),
    *("2001::80ff:fffe", "2001:0:7f00:1::", "100::1", "2001:db8::1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "192.167.255.255", "100.63.255.255", "223.255.255.254"),
    *("2606:4700:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"),
]


class Names(AbstractResolver):
    """A name service that says what it is told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        """Nothing to release."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[str]:
    """A web server on loopback; its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def talking(talk: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that says whatever it likes; its address."""
    speakers: list[asyncio.Task[None]] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speakers.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await talk(writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for speaker in speakers:
            speaker.cancel()
        await asyncio.gather(*speakers, return_exceptions=True)


async def failure(base: str, **options: Any) -> str:
    """Why a post to such a server fails."""
    outside = Outside(**{"allow_private": True, "timeout_s": 5.0} | options)
    try:
        with pytest.raises(Failed) as caught:
            await outside.post(target(f"{base}/{SECRET}", "--webhook 1", allow_private=True), b"{}")
        return str(caught.value)
    finally:
        await outside.close()


async def posted(handler: Handler, path: str = f"/{SECRET}", **options: Any) -> Answer:
    """What comes of one post to such a receiver."""
    token = options.pop("token", None)
    outside = Outside(**{"allow_private": True, "timeout_s": 5.0} | options)
    try:
        async with receiver(handler) as base:
            to = target(base + path, "--webhook 1", allow_private=True, token=token)
            return await outside.post(to, b"{}", {"Idempotency-Key": "k"})
    finally:
        await outside.close()


async def refused(text: str, resolver: AbstractResolver | None = None) -> str:
    """Why a post to a URL fails, private addresses not being allowed."""
    outside = Outside(timeout_s=5.0, resolver=resolver)
    try:
        with pytest.raises(Failed) as caught:
            await outside.post(target(text, "--webhook 1", allow_private=True), b"{}")
        return str(caught.value)
    finally:
        await outside.close()


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_known(address: str):
    """Of IPv4, of IPv6, and an IPv4 address inside an IPv6 one."""
    assert is_private(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_known(address: str):
    """The neighbours of the private ranges, and embedded public ones."""
    assert not is_private(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "169.254.169.254", "0.0.0.0"),
        *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "\uff11\uff12\uff17.0.0.1", "0x7f.1"),
    ],
)
def test_a_private_address_is_refused_at_the_start(host: str):
    """In every form that the C library takes for an address; allowed, the usual ones are taken."""
    with pytest.raises(UsageError, match="private address"):
        target(f"http://{host}:8080/{SECRET}", "--webhook 1")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"])
def test_a_name_that_leads_to_a_private_address_is_refused(address: str):
    """When it is connected to: whatever was resolved before does not count."""
    said = asyncio.run(refused("https://hooks.example.org/x", Names(address)))
    assert said == "it is at a private address, which is not allowed (--allow-private)"


def test_a_name_with_several_private_addresses_is_refused():
    """None of them is tried, in either family."""
    said = asyncio.run(refused("https://hooks.example.org/x", Names("10.0.0.1", "::1", "127.0.0.1")))
    assert "private address" in said


def test_localhost_is_refused():
    """By what the system's own resolver says of it."""
    assert "private address" in asyncio.run(refused("http://localhost:9/x"))


def test_a_name_that_changes_its_address_is_asked_each_time():
    """Nothing is remembered of a name: what was public a moment ago may be private now (rebinding)."""
    hits: list[str] = []

    async def take(request: web.Request) -> web.Response:
        hits.append(request.path)
        return web.Response()

    async def test() -> None:
        names = Names("127.0.0.1")
        async with receiver(take) as base:
            to = target(base.replace("127.0.0.1", "rebound.example.org"), "--webhook 1")
            allowed = Outside(allow_private=True, resolver=names)
            assert (await allowed.post(to, b"{}")).status == 200
            assert (await allowed.post(to, b"{}")).status == 200
            await allowed.close()
            assert len(names.asked) == 2
            outside = Outside(resolver=names)
            with pytest.raises(Failed, match="private"):
                await outside.post(to, b"{}")
            await outside.close()

    asyncio.run(test())
    assert len(hits) == 2


@pytest.mark.parametrize("text", ["file:///etc/passwd", "ftp://a.org/x", "gopher://a.org/", "javascript:alert(1)", "x"])
def test_another_scheme_is_refused(text: str):
    """Only http and https, with a host."""
    with pytest.raises(UsageError, match=r"must be an http:// or https:// URL"):
        target(text, "--webhook 1")


@pytest.mark.parametrize(
    "text", ["http://", "http:///x", "https://a.org:0/", "https://a.org:99999/", "https://a.org:x/"]
)
def test_what_is_no_address_is_refused(text: str):
    """One sentence, whatever the library thinks of it."""
    with pytest.raises(UsageError):
        target(text, "--webhook 1")


@pytest.mark.parametrize("text", [f"https://ana:{SECRET}@a.org/", "https://ana@a.org/", f"https://:{SECRET}@a.org/"])
def test_credentials_in_a_url_are_refused(text: str):
    """They would be in shell histories and process lists; and the sentence does not repeat them."""
    with pytest.raises(UsageError, match="user or password") as caught:
        target(text, "--webhook 1")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("end", ["\r\nX-Evil: 1", "\nHost: b.org", "\x00", "a b", "\t", "\\@b.org", "\x7f"])
def test_a_url_cannot_carry_headers(end: str):
    """No control character, space or backslash reaches a request; the sentence does not repeat the URL."""
    with pytest.raises(UsageError, match="control characters") as caught:
        target(f"https://a.org/{SECRET}{end}", "--webhook 1")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "a b", "ü", ""])
def test_a_token_cannot_carry_headers(token: str):
    """One word of ASCII, or it is refused."""
    with pytest.raises(UsageError, match="one word of ASCII"):
        target("https://a.org/", "--webhook 1", token=token)


def test_a_token_is_not_sent_unprotected():
    """Over plain http only where private addresses are allowed."""
    with pytest.raises(UsageError, match="unprotected"):
        target("http://a.org/", "--webhook 1", token=SECRET)
    assert target("http://a.org/", "--webhook 1", token=SECRET, allow_private=True).token == SECRET


def test_a_redirect_is_not_followed():
    """Its target is never asked, and what went wrong is said without it."""
    asked: list[str] = []

    async def lead_away(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect(f"http://{request.host}/elsewhere")

    answer = asyncio.run(posted(lead_away))
    assert (answer.status, asked) == (307, [f"/{SECRET}"])
    with pytest.raises(Failed, match="redirects are not followed") as caught:
        answered(answer)
    assert not caught.value.final


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_kind_of_redirect_counts_as_delivered(status: int):
    """All of them are failures that are tried again."""
    with pytest.raises(Failed):
        answered(Answer(status, None))


def test_a_receiver_that_hangs_is_given_up_in_time():
    """No answer within the time is a failure."""

    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    with pytest.raises(Failed, match=r"no answer within 0\.3 s"):
        asyncio.run(posted(hang, timeout_s=0.3))


def test_a_receiver_that_drips_its_head_is_given_up_in_time():
    """The time is for everything, not between two bytes."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        for letter in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000:
            writer.write(bytes([letter]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async def test() -> None:
        async with talking(drip) as base:
            assert await failure(base, timeout_s=0.4) == "no answer within 0.4 s"

    asyncio.run(test())


def test_an_endless_answer_is_not_read():
    """The head decides; of the body nothing is taken, so that it may be as long as it likes."""
    sent = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100_000):
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async def test() -> Answer:
        outside = Outside(allow_private=True)
        try:
            async with talking(pour) as base:
                return await outside.post(target(base, "--webhook 1", allow_private=True), b"{}")
        finally:
            await outside.close()

    assert asyncio.run(test()).status == 200
    assert sent < 50_000_000


def test_an_endless_head_is_a_failure():
    """Headers without end are not kept either."""

    async def boast(request: web.Request) -> web.Response:
        return web.Response(headers={f"X-{n}": "y" * 8_000 for n in range(10)} | {"X-Long": "z" * 100_000})

    with pytest.raises(Failed):
        asyncio.run(posted(boast))


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (b"220 mail.example.org ESMTP\r\n", "it does not answer as a web server does"),
        (b"\x00" * 100, "it does not answer as a web server does"),
        (b"", "the connection was closed without an answer"),
    ],
)
def test_what_is_no_http_is_a_failure(greeting: bytes, why: str):
    """Another protocol's greeting, or nothing at all, is told in words."""

    async def test() -> str:
        async def talk(writer: asyncio.StreamWriter) -> None:
            writer.write(greeting)

        async with talking(talk) as base:
            return await failure(base)

    assert asyncio.run(test()) == why


def test_a_certificate_that_is_not_accepted_is_told_in_words():
    """What the library found wrong with it, and neither codes nor lines of C."""
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")
    error.verify_message = "self-signed certificate"
    assert _reason(error) == "its certificate is not accepted (self-signed certificate)"


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    """It would connect where we may not."""

    async def take(request: web.Request) -> web.Response:
        return web.Response(status=204)

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert asyncio.run(posted(take)).status == 204


def test_a_cookie_is_not_kept():
    """What one answer sets, no later request carries."""
    carried: list[Any] = []

    async def test() -> None:
        async def bake(request: web.Request) -> web.Response:
            carried.append(request.headers.get("Cookie"))
            return web.Response(headers={"Set-Cookie": "session=1"})

        outside = Outside(allow_private=True)
        async with receiver(bake) as base:
            for _ in range(2):
                await outside.post(target(base, "--webhook 1", allow_private=True), b"{}")
        await outside.close()

    asyncio.run(test())
    assert carried == [None, None]


def test_what_is_sent_is_json_with_its_key_and_token():
    """Type, key, token and who we are; the token only as a bearer's."""
    seen: dict[str, str] = {}

    async def take(request: web.Request) -> web.Response:
        seen.update(request.headers)
        return web.Response(headers={"Retry-After": "7"})

    answer = asyncio.run(posted(take, token=SECRET))
    assert answer == Answer(200, 7.0)
    assert seen["Content-Type"] == "application/json"
    assert (seen["Idempotency-Key"], seen["Authorization"]) == ("k", f"Bearer {SECRET}")
    assert seen["User-Agent"].startswith("headrace/")


def test_nothing_shows_a_token_or_a_path(caplog: pytest.LogCaptureFixture):
    """Not a representation, not a failure, not a line of any logger."""
    caplog.set_level(logging.DEBUG)
    to = target(f"https://a.org/{SECRET}", "--webhook 1", token=f"b{SECRET}")
    assert SECRET not in repr(to) + str(to) + to.name

    async def fail(request: web.Request) -> web.Response:
        return web.Response(status=500, text=SECRET)

    answer = asyncio.run(posted(fail, token=SECRET))
    with pytest.raises(Failed) as caught:
        answered(answer)
    assert SECRET not in str(caught.value) + repr(answer)
    assert SECRET not in asyncio.run(refused(f"http://127.0.0.1:1/{SECRET}"))
    assert SECRET not in asyncio.run(refused(f"http://no-such-name.invalid/{SECRET}"))
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5.0), ("-1", None), ("1e9", None), ("soon", None), ("9" * 30, None)]
)
def test_retry_after_is_a_number_or_nothing(text: str, seconds: float | None):
    """Dates and nonsense are as if it were absent."""

    async def busy(request: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": text})

    assert asyncio.run(posted(busy)) == Answer(503, seconds)


@pytest.mark.parametrize(
    ("status", "final"), [(400, True), (413, True), (422, True), (401, False), (404, False), (500, False)]
)
def test_what_a_receiver_will_never_take_is_told_apart(status: int, final: bool):
    """What is wrong with the record itself, and what the operator may mend."""
    with pytest.raises(Failed) as caught:
        answered(Answer(status, None))
    assert caught.value.final is final
