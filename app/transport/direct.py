"""The two routes that do the miner's work, called past the framework: its routing cost as much as a refusal by them."""

from collections.abc import Awaitable, Callable, Iterable
from typing import cast

from litestar import Request
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from app.transport.body import PlainRequest
from app.transport.failures import Failures
from app.transport.wire_answer import WireAnswer

type _Handler = Callable[[PlainRequest], Awaitable[WireAnswer]]


class DirectRoutes:
    """An ASGI app that calls some handlers itself and leaves all else to the framework, which knows them too.

    The handlers take the request alone and give a `WireAnswer`. What they raise becomes the same answers as elsewhere.
    """

    def __init__(self, framework: ASGIApp, handlers: Iterable[HTTPRouteHandler], failures: Failures) -> None:
        self._framework = framework
        self._failures = failures
        self._handlers = {
            (str(method), path): cast("_Handler", handler.fn)
            for handler in handlers
            for method in handler.http_methods
            for path in handler.paths
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        handler = self._handlers.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if handler is None:
            await self._framework(scope, receive, send)
            return
        request: PlainRequest = Request(scope, receive, send)
        try:
            answer = await handler(request)
        except Exception as error:  # noqa: BLE001 - the process's edge, as in the framework: a bug ends as a 500
            answer = self._failed(request, error)
        await answer(scope, receive, send)

    def _failed(self, request: PlainRequest, error: Exception) -> WireAnswer:
        answer = next(self._failures[kind] for kind in type(error).__mro__ if kind in self._failures)
        return answer(request, error)
