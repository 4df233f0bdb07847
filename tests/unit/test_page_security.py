"""The page refuses what is not allowed: over real HTTP on loopback, each refusal with one sentence and nothing done."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from headrace.streams.control.page import server, stream
from headrace.streams.control.page.guard import Guard, fresh_token
from headrace.streams.errors import HeadraceError, Unreachable, UsageError
from headrace.streams.models.keys import KeyFileError
from tests.browser.scene import TOKEN, Scene

PROMOTE = {"kind": "promote", "model": "logreg", "by": "ada", "saw": 2, "shard": 0}
CARRIED = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture(scope="module")
def page() -> Iterator[Scene]:
    """A page with an alert and two models."""
    scene = Scene().start().feed()
    scene.alert("a1")
    yield scene
    scene.stop()


class Said:
    """An answer: status, headers, and what it says."""

    def __init__(self, found: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.raw = found.status, found.headers, found.read()

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.raw)


def ask(page: Scene, method: str, path: str, headers: list[tuple[str, str]], body: bytes = b"") -> Said:
    """One request with exactly these headers."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if method == "POST" and not any(name == "Transfer-Encoding" for name, _ in headers):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        with contextlib.suppress(ConnectionError):  # a body that is too large may not be read to its end
            connection.send(body)
        return Said(connection.getresponse())
    finally:
        connection.close()


def get(page: Scene, path: str = "/", *more: tuple[str, str], host: str | None = None) -> Said:
    """A GET as a browser sends it."""
    return ask(page, "GET", path, [("Host", host or f"127.0.0.1:{page.port}"), *more])


def post(
    page: Scene, path: str = "/api/decide", body: Any = PROMOTE, without: str = "", **changed: str | list[str]
) -> Said:
    """A change as the page sends it, but for what is said: `Content_Type="text/plain"`, `without="Origin"`."""
    headers: dict[str, str | list[str]] = {
        "Host": f"127.0.0.1:{page.port}",
        "Origin": f"http://127.0.0.1:{page.port}",
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
    } | {name.replace("_", "-"): value for name, value in changed.items()}
    sent = [
        (name, one)
        for name, value in headers.items()
        if name != without
        for one in (value if isinstance(value, list) else [value])
    ]
    return ask(page, "POST", path, sent, body if isinstance(body, bytes) else json.dumps(body).encode())


def sentence(said: Said) -> str:
    """The one sentence of a refusal; it names no code and no path of a file."""
    told = said.json["error"]
    assert told.endswith(".")
    assert "Traceback" not in told
    assert "/streams/" not in told
    return str(told)


# -- hosts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:{port}", "localhost:{port}", "LocalHost:8000", "[::1]:{port}"]
)
def test_our_own_names_are_answered(page: Scene, host: str):
    """Loopback's names, with any port: a tunnel may change it."""
    assert get(page, host=host.format(port=page.port)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example:{port}",
        "evil.example#127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1:abc",
        "127.0.0.1:{port}:1",
        "0.0.0.0:{port}",
        "192.168.1.1",
        "[::1].evil.example",
        "localhost.",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/board", "/api/events"])
def test_another_host_is_refused(page: Scene, host: str, path: str):
    """A page whose name was rebound to our address gets nothing, not even the page's files."""
    said = get(page, path, host=host.format(port=page.port))
    assert said.status == 421
    assert "open it at that address" in sentence(said)


def test_no_host_and_two_hosts_are_refused(page: Scene):
    """A request says once whom it is for."""
    assert ask(page, "GET", "/", []).status in (400, 421)
    twice = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert ask(page, "GET", "/", twice).status in (400, 421)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_get_no_data(page: Scene, site: str):
    """A page of another site, or of another port, may neither read the board nor open a stream."""
    assert get(page, "/api/board", ("Sec-Fetch-Site", site)).status == 403
    assert get(page, "/api/events", ("Sec-Fetch-Site", site)).status == 403


# -- changes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"without": "Authorization"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN.upper()}"}, 401),
        ({"Authorization": f"Bearer  {TOKEN}"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": "Bearer caf\u00e9-caf\u00e9-caf\u00e9"}, 401),
        ({"Authorization": [f"Bearer {TOKEN}", "Bearer x"]}, 400),
        ({"without": "Authorization", "Cookie": f"token={TOKEN}"}, 401),
        ({"without": "Authorization", "path": f"/api/decide?token={TOKEN}"}, 401),
        ({"without": "Origin"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://127.0.0.1:{port}"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:{port}/"}, 403),
        ({"Origin": ["http://127.0.0.1:{port}", "http://evil.example"]}, 400),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"without": "Content-Type"}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content_Encoding": "gzip", "body": b"{}"}, 415),
        ({"body": b"x" * 20_000}, 413),
        ({"body": b""}, 400),
        ({"body": b"{"}, 400),
        ({"body": b"[]"}, 400),
        ({"body": b"null"}, 400),
        ({"body": b"\xff\xfe"}, 400),
        ({"body": b"[" * 16_000}, 400),
        ({"body": PROMOTE | {"more": 1}}, 400),
        ({"body": PROMOTE | {"kind": "adopt"}}, 400),
        ({"body": PROMOTE | {"kind": "retrain"}}, 400),
        ({"body": PROMOTE | {"model": None}}, 400),
        ({"body": PROMOTE | {"model": 5}}, 400),
        ({"body": PROMOTE | {"model": "m" * 101}}, 400),
        ({"body": PROMOTE | {"by": ""}}, 400),
        ({"body": PROMOTE | {"why": "y" * 2_001}}, 400),
        ({"body": PROMOTE | {"saw": -1}}, 400),
        ({"body": PROMOTE | {"saw": None}}, 400),
        ({"body": PROMOTE | {"shard": 9}}, 400),
        ({"body": PROMOTE | {"share": 0.5}}, 400),
        ({"body": PROMOTE | {"kind": "canary"}}, 400),
        ({"body": PROMOTE | {"kind": "canary", "share": 1.5}}, 400),
        ({"body": b'{"kind": "canary", "model": "m", "by": "a", "saw": 1, "shard": 0, "share": NaN}'}, 400),
        ({"path": "/api/acknowledge", "body": {"alert_id": "a1"}}, 400),
        ({"path": "/api/acknowledge", "body": {"alert_id": "nobody's", "by": "ada"}}, 404),
        ({"path": "/api/explain", "body": {"event_id": ""}}, 400),
        ({"path": "/api/explain", "body": {"event_id": "x"}, "without": "Authorization"}, 401),
        ({"path": "/api/session", "body": {}, "without": "Authorization"}, 401),
        ({"path": "/api/nothing", "body": {}}, 404),
        ({"path": "/"}, 405),
    ],
)
def test_a_change_that_is_not_allowed_changes_nothing(page: Scene, changed: dict[str, Any], status: int):
    """Whatever is wrong with it: the status says what, the sentence what to do, and no action was taken."""

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        return value.replace("{port}", str(page.port)) if isinstance(value, str) else value

    before = len(page.asked)
    said = post(page, **{name: filled(value) for name, value in changed.items()})
    assert said.status == status, said.raw
    sentence(said)
    assert len(page.asked) == before
    assert not any(name.lower().startswith("access-control") for name in said.headers)


def test_a_change_that_is_allowed_is_done(page: Scene):
    """Token, origin, type and body are right: the action is taken, once."""
    assert post(page, "/api/session", {}).json == {"allowed": True}
    before = len(page.asked)
    assert post(page, "/api/acknowledge", {"alert_id": "a1", "by": "ada"}).status == 200
    assert page.asked[before:] == [("acknowledge", "a1", "ada", "")]


def test_a_stale_command_is_a_conflict(page: Scene):
    """It was decided on an older version: the answer is the worker's own sentence, with 409."""
    said = post(page, body=PROMOTE | {"saw": 1})
    assert said.status == 409
    assert "has changed since" in sentence(said)
    assert said.json["shards"][0]["fact"]["kind"] == "refused"


def test_no_worker_is_accepted_not_done(page: Scene):
    """202: it is written, and takes effect when a worker reads it."""
    page.worker = False
    try:
        assert post(page).status == 202
    finally:
        page.worker = True


def test_a_body_in_pieces_is_bounded(page: Scene):
    """Without a length announced, it is still no more than so much that is read."""
    piece = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    assert post(page, body=piece * 4 + b"0\r\n\r\n", Transfer_Encoding="chunked").status == 413


def test_a_body_that_never_ends_is_given_up(page: Scene, monkeypatch: pytest.MonkeyPatch):
    """Who announces more than comes does not hold a place for ever."""
    monkeypatch.setattr(server, "_BODY_S", 0.1)
    head = (
        f"POST /api/decide HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert b" 504 " in connection.recv(200).splitlines()[0]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/api/decide"])
def test_other_methods_are_refused(page: Scene, method: str, path: str):
    """No answer to a preflight either, so no other site may even ask."""
    headers = [("Host", "127.0.0.1"), ("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")]
    said = ask(page, method, path, headers)
    assert said.status == 405
    assert not any(name.lower().startswith("access-control") for name in said.headers)


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        (UsageError("There is no model 'x'."), 400, "There is no model 'x'."),
        (HeadraceError("Explaining takes too long."), 400, "Explaining takes too long."),
        (KeyFileError("Run `chmod 600 key.pem`."), 400, "Run `chmod 600 key.pem`."),
        (Unreachable("No broker answers."), 503, "No broker answers."),
        (TimeoutError(), 504, "That took too long and was given up; try again."),
        (RuntimeError("secret at /root/key"), 500, "Something went wrong here; the control plane's log says what."),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    page: Scene, monkeypatch: pytest.MonkeyPatch, raised: Exception, status: int, told: str
):
    """Ours are told as they are; what nobody foresaw goes to the log, not to whoever asks."""

    async def explain(event_id: str) -> dict[str, Any]:
        raise raised

    monkeypatch.setattr(page, "explain", explain)
    said = post(page, "/api/explain", {"event_id": "x"})
    assert (said.status, said.json) == (status, {"error": told})


# -- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "host"),
    [("/", None), ("/static/app.js", None), ("/api/board", None), ("/nothing", None), ("/", "evil.example")],
)
def test_every_answer_is_dressed(page: Scene, path: str, host: str | None):
    """Errors too: policy, no frame, no sniffing, no referrer, no software's name."""
    said = get(page, path, host=host)
    policy = dict(part.strip().split(" ", 1) for part in said.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in said.headers["Content-Security-Policy"]
    assert {name: said.headers[name] for name in CARRIED} == CARRIED
    assert "Server" not in said.headers


def test_a_stream_is_dressed(page: Scene):
    """The policy and the ban on keeping it are on streams as well."""
    with _streaming(page) as connection:
        head = connection.recv(4_000).decode()
    assert "text/event-stream" in head
    assert "Cache-Control: no-store" in head
    assert "default-src 'none'" in head
    assert "\r\nServer:" not in head


def test_data_is_not_kept_and_files_are_asked_for_anew(page: Scene):
    """no-store for what is of the pipeline; files by their tag."""
    assert get(page, "/api/board").headers["Cache-Control"] == "no-store"
    first = get(page, "/static/app.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = get(page, "/static/app.js", ("If-None-Match", first.headers["ETag"]))
    assert (again.status, again.raw) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../guard.py",
        "/static/%2e%2e/guard.py",
        "/static/..%2fguard.py",
        "/static//etc/passwd",
        "/static/",
        "/static",
        "/static/__init__.py",
        "/static/plotly.min.js/..",
        "/guard.py",
        "//evil.example/",
        "/%00",
        "/api",
        "/api/",
    ],
)
def test_no_path_leads_out(page: Scene, path: str):
    """Only what is listed is served."""
    said = get(page, path)
    assert said.status == 404
    assert path not in said.raw.decode()


@pytest.mark.parametrize("raw", [b"GET / HTTP/9.9\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n"])
def test_nonsense_is_refused_and_the_page_stays_up(page: Scene, raw: bytes):
    """Requests that are none end their connection, with a client's error."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall(raw)
        assert connection.recv(200).split(b" ")[1][:1] == b"4"
    assert get(page).status == 200


# -- streams -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _streaming(page: Scene, size: int | None = None) -> Iterator[socket.socket]:
    """An open stream, at its beginning."""
    connection = socket.socket()
    if size is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", page.port))
    connection.sendall(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    try:
        yield connection
    finally:
        connection.close()


def _hub(page: Scene) -> stream.Hub:
    assert page._runner is not None
    return page._runner.app[stream.HUB]


def _until(condition: Any, what: str, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.01)


def test_too_many_streams_are_refused(page: Scene, monkeypatch: pytest.MonkeyPatch):
    """A place for each of so many, and none beyond; a place that is left is free again."""
    _until(lambda: not _hub(page).clients, "no client")
    monkeypatch.setattr(stream, "_MOST", 1)
    with _streaming(page) as first:
        first.recv(10)
        said = get(page, "/api/events")
        assert (said.status, said.headers["Retry-After"]) == (503, "10")
    _until(lambda: not _hub(page).clients, "the place is free")


def test_a_client_that_takes_nothing_is_dropped(page: Scene, monkeypatch: pytest.MonkeyPatch):
    """It holds no place and no memory: at most one frame of each section waits for it, and then it is cut."""
    monkeypatch.setattr(stream, "_STALL_S", 0.2)
    with _streaming(page, size=4_096):
        _until(lambda: _hub(page).clients, "it is there")
        (client,) = _hub(page).clients
        for i in range(20):
            page.alert(f"flood-{i}")
            assert len(client._waiting) <= 9
        for _ in range(100):
            page.say(_hub(page)._hand, "metrics", b"x" * 1_000_000)
        _until(lambda: client not in _hub(page).clients, "it is dropped")


def test_no_data_ends_a_frame(page: Scene):
    """Line breaks in what somebody sent stay inside of JSON's text: they begin no event of their own."""
    page.alert("a2", message="x\n\nevent: evil\ndata: {}\n\n", signal="\r\n\r\nevent: evil\r\n")
    with _streaming(page) as connection:
        found = b""
        while b"event: glance" not in found or not found.endswith(b"\n\n\r\n"):
            found += connection.recv(65_536)
    assert not re.search(rb"^event: evil", found, flags=re.MULTILINE)
    assert b"\\n\\nevent: evil" in found


def test_two_streams_see_an_update(page: Scene):
    """Every open page is told."""
    with _streaming(page) as one, _streaming(page) as other:
        for connection in (one, other):
            while b"event: glance" not in connection.recv(1 << 20):
                pass
        page.alert("a3")
        for connection in (one, other):
            found = b""
            while b'"alert_id":"a3"' not in found:
                found += connection.recv(1 << 20)


# -- the token -----------------------------------------------------------------------------------------------------


def test_without_a_token_nobody_changes_anything():
    """A page that was given none shows, and refuses every change whatever is sent along."""
    page = Scene(token=None).start()
    try:
        assert get(page).status == 200
        for said in (post(page), post(page, Authorization="Bearer None"), post(page, without="Authorization")):
            assert said.status == 403
            assert "only shows" in sentence(said)
    finally:
        page.stop()


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "a token with caf\u00e9 in it", "line\nbreak in the token"])
def test_a_poor_token_is_refused_at_the_start(token: str):
    """One that is short, or cannot stand in a header, protects nothing."""
    with pytest.raises(UsageError, match="at least 16"):
        Guard(token)


def test_fresh_tokens_differ_and_are_good():
    """256 bits of chance each."""
    tokens = {fresh_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 and Guard(token) for token in tokens)


# -- the files -----------------------------------------------------------------------------------------------------


def _files() -> dict[str, str]:
    folder = resources.files("headrace.streams.control.page").joinpath("static")
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_scripts_make_no_markup_of_text():
    """Whatever is shown goes through textContent: there is no way for data to become an element or code."""
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
        r"|\beval\(|new Function|javascript:"
    )
    assert [(name, found) for name, text in _files().items() for found in re.findall(forbidden, text)] == []


def test_the_page_loads_from_itself_only():
    """No address of anybody else, no script, style or handler in the page itself."""
    allowed = {"http://www.w3.org/2000/svg"}
    for name, text in _files().items():
        assert set(re.findall(r"https?://[^\s\"'`<>)]+", text)) <= allowed, name
    html = _files()["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)


def test_the_token_never_goes_into_an_address():
    """It is read from the fragment, taken out of the address bar, and sent in a header only."""
    scripts = "".join(text for name, text in _files().items() if name.endswith(".js"))
    assert "history.replaceState" in scripts
    assert not re.search(r"[?&]token=", scripts)
    assert "localStorage.setItem(KEY, value)" not in _files()["api.js"]
