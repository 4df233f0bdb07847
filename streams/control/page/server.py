"""The page as an aiohttp application: its files, the board as data, and the few changes that people may make."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
from aiohttp import web

from headrace.streams.control.board import Board
from headrace.streams.control.page.guard import Guard, Refused
from headrace.streams.control.page.stream import HUB, Hub, events, running
from headrace.streams.errors import UNREADABLE, UsageError

__all__ = ["Actions", "build"]

_BODY = 16_384
_BODY_S = 10.0
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PLOTLY = "plotly.min.js"
_DECISIONS = Literal["promote", "approve", "rollback", "retire", "canary"]
_log = logging.getLogger(__name__)

T = TypeVar("T")
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Actions(Protocol):
    """What the page can do to a pipeline: each either answers or raises a `HeadraceError` of one sentence."""

    async def decide(
        self,
        kind: str,
        model: str | None,
        *,
        why: str,
        saw: int | None,
        shard: int | None,
        by: str,
        share: float | None = None,
    ) -> dict[str, Any]:
        """Send a command, wait for its answer: ``{"id": ..., "shards": [{"shard": 0, "fact": {...} or None}]}``."""

    async def acknowledge(self, alert_id: str, by: str, note: str) -> dict[str, Any]:
        """Say that a person has seen an alert."""

    async def explain(self, event_id: str) -> dict[str, Any]:
        """One event's way, recomputed and compared."""


class Decision(msgspec.Struct, forbid_unknown_fields=True):
    """What a person wants of a model."""

    kind: _DECISIONS
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None
    by: _Name
    saw: Annotated[int, msgspec.Meta(ge=0)]
    shard: Annotated[int, msgspec.Meta(ge=0)]
    why: Annotated[str, msgspec.Meta(max_length=2_000)] = ""
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


class Acknowledgement(msgspec.Struct, forbid_unknown_fields=True):
    """That a person has seen an alert."""

    alert_id: _Name
    by: _Name
    note: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """Which event is to be explained."""

    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


def build(
    board: Board, actions: Actions, guard: Guard, glance: Callable[[], Awaitable[dict[str, Any] | None]]
) -> web.Application:
    """The application; whoever runs it binds it to loopback, and may add routes of its own before it starts.

    Parameters
    ----------
    board
        The live state.
    actions
        What is done to the pipeline when somebody who may asks for it.
    guard
        Who may.
    glance
        The newest value of `overview.gather`, or None when there is none.
    """
    app = web.Application(middlewares=[guard.middleware], client_max_size=_BODY)
    app[HUB] = Hub(board, glance)
    app.on_response_prepare.append(guard.dress)
    app.cleanup_ctx.append(running)
    app.on_shutdown.append(_close)
    app.add_routes(
        [
            web.get("/api/board", _board),
            web.get("/api/events", events, allow_head=False),
            web.post("/api/session", _session),
            web.post("/api/decide", partial(_decide, board, actions)),
            web.post("/api/acknowledge", partial(_acknowledge, board, actions)),
            web.post("/api/explain", partial(_explain, actions)),
            web.get(f"/static/{_PLOTLY}", _plotly),
        ]
    )
    for path in resources.files(__package__).joinpath("static").iterdir():
        _serve(app, path.name, path.read_bytes())
    return app


# -- what is shown -------------------------------------------------------------------------------------------------


def _serve(app: web.Application, name: str, data: bytes) -> None:
    """One file, read once: no path is ever made of what somebody asked for."""
    suffix = Path(name).suffix
    if suffix not in _TYPES:
        return
    tag = hashlib.sha256(data).hexdigest()[:20]

    async def file(request: web.Request) -> web.Response:
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=data, content_type=_TYPES[suffix], charset="utf-8", headers=headers)

    app.router.add_get("/" if name == "index.html" else f"/static/{name}", file)


async def _plotly(request: web.Request) -> web.StreamResponse:
    """The chart library, from its own package."""
    spec = importlib.util.find_spec("plotly")  # found, not imported: that takes a second
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "package_data" / _PLOTLY
    if path is None or not path.is_file():
        raise Refused(404, "The package plotly is not installed: `make install` brings it.")
    return web.FileResponse(path, headers={"Cache-Control": "no-cache", "Content-Type": "text/javascript"})


async def _board(request: web.Request) -> web.Response:
    return web.Response(body=msgspec.json.encode(request.app[HUB].snapshot()), content_type="application/json")


# -- what is changed -----------------------------------------------------------------------------------------------


async def _session(request: web.Request) -> web.Response:
    """Whether the token is right: the guard has said so by now."""
    return _answer({"allowed": True})


async def _decide(board: Board, actions: Actions, request: web.Request) -> web.Response:
    wanted = await _body(request, Decision)
    if wanted.model is None and wanted.kind != "rollback":
        raise UsageError(f"{wanted.kind} needs a model.")
    if (wanted.share is not None) != (wanted.kind == "canary"):
        raise UsageError("A share is for a canary, and a canary needs one.")
    if wanted.shard >= board.pipeline.partitions:
        raise UsageError(f"There is no shard {wanted.shard}; they are 0 to {board.pipeline.partitions - 1}.")
    more = {} if wanted.share is None else {"share": wanted.share}
    found = await actions.decide(
        wanted.kind, wanted.model, why=wanted.why, saw=wanted.saw, shard=wanted.shard, by=wanted.by, **more
    )
    facts = [row["fact"] for row in found["shards"]]
    refused = next((fact for fact in facts if fact is not None and fact["kind"] == "refused"), None)
    if refused is not None:
        return _answer(found | {"error": f"Refused: {refused['why']}."}, 409)
    return _answer(found, 200 if facts and None not in facts else 202)


async def _acknowledge(board: Board, actions: Actions, request: web.Request) -> web.Response:
    wanted = await _body(request, Acknowledgement)
    if board.alert(wanted.alert_id) is None:
        raise Refused(404, "There is no such alert any more: the list has been brought up to date.")
    return _answer(await actions.acknowledge(wanted.alert_id, wanted.by, wanted.note))


async def _explain(actions: Actions, request: web.Request) -> web.Response:
    return _answer(await actions.explain((await _body(request, Question)).event_id))


async def _body(request: web.Request, kind: type[T]) -> T:
    """The body as a value of this kind; what does not fit is said in one sentence, without what was sent."""
    try:
        raw = await asyncio.wait_for(request.read(), _BODY_S)
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{error}.") from error
    except UNREADABLE as error:
        raise UsageError("The body is no JSON object.") from error


def _answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value, enc_hook=str), status=status, content_type="application/json")


async def _close(app: web.Application) -> None:
    app[HUB].close()
