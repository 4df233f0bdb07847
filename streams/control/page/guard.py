"""Who may ask the page for what: everything is refused unless it is allowed here.

1. Every request: one Host header, with a name of ours. A page whose name was rebound to this address has another.
2. Data: not for pages of other sites (Sec-Fetch-Site).
3. Every change, that is every POST: Origin is our own address, the token as `Authorization: Bearer`, JSON as its type
   (no form of another site can send that), and a body of bounded size.

Answers carry a content security policy, are never framed, and are not kept; they do not name the server's software.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus

from aiohttp import web

from headrace.streams.errors import HeadraceError, Unreachable, UsageError

__all__ = ["LOOPBACK", "Guard", "Refused", "fresh_token"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a page on loopback is reached."""

_SHORTEST = 16
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is not answered: its HTTP status, and one sentence that says what to do."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


class Guard:
    """The rules of one page: its token, and the host names under which it may be reached.

    Parameters
    ----------
    token
        What a change needs, of at least 16 printable ASCII characters; None: nobody may change anything.
    names
        Host names, without a port.
    """

    def __init__(self, token: str | None, names: Iterable[str] = LOOPBACK) -> None:
        if token is not None and (len(token) < _SHORTEST or not token.isascii() or not token.isprintable()):
            raise UsageError(
                f"The token of the control plane needs at least {_SHORTEST} printable ASCII characters; leave it out "
                "for a fresh one."
            )
        self._token = None if token is None else token.encode()
        self.names = frozenset(name.lower() for name in names)

    def admit(self, request: web.Request) -> None:
        """Raise `Refused` unless the request keeps to the rules."""
        host = self._host(request)
        if request.path.startswith("/api/") and _one(request, "Sec-Fetch-Site") in ("cross-site", "same-site"):
            raise Refused(403, "Pages of other sites get no data from here.")
        if request.method in ("GET", "HEAD"):
            return
        if request.method != "POST":
            raise Refused(405, "Only GET and POST are answered here.", Allow="GET, HEAD, POST")
        if _one(request, "Origin") != f"{request.scheme}://{host}":
            raise Refused(403, "Changes are taken from this page only: open it at its own address.")
        self._authorise(request)
        if request.content_type != "application/json" or "Content-Encoding" in request.headers:
            raise Refused(415, "A change is sent as application/json, not compressed.")

    def _host(self, request: web.Request) -> str:
        found = request.headers.getall("Host", [])
        name = found[0].lower() if len(found) == 1 else ""
        bare, colon, port = name.rpartition(":") if not name.endswith("]") else (name, "", "")
        if not colon:
            bare = name
        if bare not in self.names or (colon and not port.isdecimal()):
            raise Refused(421, f"This page answers at {', '.join(sorted(self.names))} only: open it at that address.")
        return name

    def _authorise(self, request: web.Request) -> None:
        scheme, _, said = (_one(request, "Authorization") or "").partition(" ")
        given = said.encode("utf-8", "surrogateescape")
        known = self._token
        if known is None:
            raise Refused(403, "This control plane has no token: it only shows.")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, known):
            missing = "is missing" if not said else "is not right"
            raise Refused(
                401,
                f"The token {missing}: open the address that the control plane printed when it started.",
                **{"WWW-Authenticate": "Bearer"},
            )

    # -- answers ---------------------------------------------------------------------------------------------------

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Admit the request or refuse it; whatever goes wrong is an answer with one sentence, and tells no more."""
        try:
            self.admit(request)
            return await handler(request)
        except Refused as refused:
            return _answer(refused.status, refused.sentence, refused.headers)
        except web.HTTPRequestEntityTooLarge:
            return _answer(413, "That is more than a change may hold.")
        except web.HTTPException as error:
            # Its phrase only: the text of an aiohttp answer may quote what was asked for.
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _answer(error.status, f"{HTTPStatus(error.status).phrase}.", allow)
        except Unreachable as error:
            return _answer(503, str(error))
        except HeadraceError as error:
            return _answer(400, str(error))
        except TimeoutError:
            return _answer(504, "That took too long and was given up; try again.")
        except Exception:
            _log.exception("the page could not answer %s", request.path)
            return _answer(500, "Something went wrong here; the control plane's log says what.")

    async def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add what every answer carries, errors and streams too (a signal: `on_response_prepare`)."""
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.popall("Server", None)


def fresh_token() -> str:
    """A new token: 256 bits of chance."""
    return secrets.token_urlsafe(32)


def _one(request: web.Request, name: str) -> str | None:
    """The header if it is there once; one that is there twice is refused."""
    found = request.headers.getall(name, [])
    if len(found) > 1:
        raise Refused(400, f"{name} is there more than once.")
    return found[0] if found else None


def _answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=headers)
