"""The dashboard on the admin listener: the page, its files, its live updates, and drain and resume by a form."""

import asyncio
import hmac
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from app.domain.admission import Admission
from app.domain.overview import Overview
from app.errors import ContentRefused, NotAllowed, Unavailable
from app.secret import Secret
from app.transport.body import BodyLimits, ClientGone, PlainRequest, read_body
from app.transport.disconnect import while_connected

if TYPE_CHECKING:
    from app.transport.dashboard import Dashboard

_TICK_SECONDS: Final = 2.0
_SEND_SECONDS: Final = 20.0
_MOST_READERS: Final = 16
_FORM: Final = BodyLimits(4096, 10.0)
_HTML: Final = "text/html; charset=utf-8"
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    # Not "no-referrer": with that a browser sends the page's own form with `Origin: null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_ASSETS: Final = {"dashboard.css": "text/css; charset=utf-8", "dashboard.js": "text/javascript; charset=utf-8"}
_OWN_SITES: Final = frozenset({"same-origin", "none"})


class DashboardRoutes:
    """Builds the handlers. Templates are read when the page is first asked for."""

    def __init__(self, overview: Callable[[], Overview], admission: Admission, token: Secret[str]) -> None:
        self._overview = overview
        self._admission = admission
        self._token = token
        self._made: Dashboard | None = None
        self._readers = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End the live updates: a listener waits for its requests before it stops."""
        self._closing.set()

    def handlers(self) -> list[HTTPRouteHandler]:
        """The page's routes."""

        @get("/", media_type=_HTML)
        async def page() -> Response[bytes]:
            return await self._page()

        @get("/overview")
        async def overview() -> Response[Overview]:
            return Response(self._overview())

        @get("/events")
        async def events(request: PlainRequest) -> Response[bytes]:
            if self._readers >= _MOST_READERS:
                raise Unavailable(f"{_MOST_READERS} pages are watched already: close one", reason="readers")
            return _Live(request, self._parts())

        @post("/action", status_code=303)
        async def action(request: PlainRequest) -> Response[bytes]:
            return await self._act(request)

        return [page, overview, events, action, *map(_asset, _ASSETS)]

    async def _dashboard(self) -> "Dashboard":
        if self._made is None:
            # Jinja takes a good part of a start's processor time, which a miner that nobody looks at need not spend;
            # and challenges go on meanwhile.
            self._made = await asyncio.to_thread(_make)
        return self._made

    async def _page(self, notice: str = "", status: int = 200) -> Response[bytes]:
        body = (await self._dashboard()).page(self._overview(), notice)
        return Response(body, media_type=_HTML, headers=_HEADERS, status_code=status)

    async def _act(self, request: PlainRequest) -> Response[bytes]:
        """Drain or resume. Errors: `NotAllowed` from another site's page, `ContentRefused`; a wrong token is shown."""
        _refuse_other_sites(request)
        body = await read_body(request, _FORM)
        try:
            fields = {name: values[-1] for name, values in parse_qs(body.decode("ascii"), max_num_fields=8).items()}
        except ValueError:
            raise ContentRefused("this takes a form with token and action") from None
        if fields.get("action") not in {"drain", "resume"}:
            raise ContentRefused("action is drain or resume")
        if not hmac.compare_digest(fields.get("token", "").encode("utf-8", "replace"), self._token.reveal().encode()):
            return await self._page("Nothing was changed: that is not the token in STATE_DIR/admin-token.", 403)
        if fields["action"] == "drain":
            self._admission.drain()
        else:
            self._admission.resume()
        return Response(b"", status_code=303, headers={"location": "/", "cache-control": "no-store"})

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        """What has changed since the last time, every two seconds."""
        dashboard = await self._dashboard()
        sent: dict[str, str] = {}
        self._readers += 1
        try:
            while not self._closing.is_set():
                overview = self._overview()
                parts = dashboard.parts(overview)
                changed = [
                    _event("part", {"id": name, "html": html}) for name, html in parts.items() if sent.get(name) != html
                ]
                sent = parts
                yield b"".join(changed) + _event("tick", {"title": dashboard.title(overview)})
                try:
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._closing.wait()
                except TimeoutError:
                    continue
        finally:
            self._readers -= 1


def _make() -> "Dashboard":
    from app.transport.dashboard import Dashboard  # noqa: PLC0415 - takes Jinja with it

    return Dashboard()


def _asset(name: str) -> HTTPRouteHandler:
    @get(f"/{name}", name=name)
    async def asset() -> Response[bytes]:
        body = (files("app") / "web" / "dashboard" / name).read_bytes()
        return Response(body, media_type=_ASSETS[name], headers=_HEADERS)

    return asset


def _event(name: str, data: object) -> bytes:
    """Write a server-sent event."""
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


def _refuse_other_sites(request: PlainRequest) -> None:
    """Refuse a form that another site's page sent (threat 20): browsers say where it came from."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or (site is not None and site not in _OWN_SITES):
        raise NotAllowed("this form was sent by another site's page", reason="origin")


class _Live(Response[bytes]):
    """Server-sent events for as long as the page is open."""

    def __init__(self, request: PlainRequest, parts: AsyncGenerator[bytes, None]) -> None:
        super().__init__(b"")
        self._sending = _Sending(request, parts)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIResponse:  # noqa: ANN401 - a dozen parameters of which none counts here
        """The response as Litestar calls it."""
        return self._sending


class _Sending(ASGIResponse):
    def __init__(self, request: PlainRequest, parts: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._request = request
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the reader leaves, or takes nothing for too long."""
        del scope, receive
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            await while_connected(self._request, self._run(send))
        except (ClientGone, TimeoutError):
            return

    async def _run(self, send: Send) -> None:
        async with aclosing(self._parts) as parts:
            async for part in parts:
                async with asyncio.timeout(_SEND_SECONDS):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
