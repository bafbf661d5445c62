"""The first gate of the public listener: what a source may spend on a route (protocol, section 5; threats 7 and 22).

It stands before the framework, because a refusal must cost next to nothing: a flood ends here.
"""

from typing import Final

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from app.domain.access import Access
from app.errors import RateLimited
from app.metrics import Metrics
from app.protocol.wire import AVAILABILITY_PATH, CHALLENGE_PATH, KEY_EXCHANGE_PATH, PUBLIC_KEY_PATH, ErrorAnswer
from app.transport.caller import Callers

INFERENCE_PATH: Final = "/inference"
_OTHER: Final = "other"


class SourceGate:
    """An ASGI app that lets through what is within its source's budget, and answers 429 with Retry-After itself."""

    def __init__(self, inner: ASGIApp, access: Access, callers: Callers, metrics: Metrics) -> None:
        self._inner = inner
        self._access = access
        self._callers = callers
        self._metrics = metrics
        self._routes = {
            AVAILABILITY_PATH: "availability",
            PUBLIC_KEY_PATH: "public_key",
            KEY_EXCHANGE_PATH: "key_exchange",
            CHALLENGE_PATH: "challenge",
            INFERENCE_PATH: "inference",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            try:
                self._access.admit_source(self._routes.get(scope["path"], _OTHER), self._callers.address(scope))
            except RateLimited as limited:
                self._metrics.refused(limited.reason)
                await _refuse(limited, send)
                return
        await self._inner(scope, receive, send)


async def _refuse(limited: RateLimited, send: Send) -> None:
    body = msgspec.json.encode(ErrorAnswer(limited.detail))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(limited.retry_after).encode()),
    ]
    await send({"type": "http.response.start", "status": limited.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
