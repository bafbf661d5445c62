"""An answer whose bytes are ready: it goes out as it is, past the framework's own making of responses."""

from collections.abc import Iterable
from typing import Any, Final

from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send

JSON: Final = b"application/json"
OCTETS: Final = b"application/octet-stream"


class WireAnswer(Response[Any]):
    """A body with its headers. It is a `Response`, so that handlers go on to say what they answer in OpenAPI."""

    def __init__(
        self, body: bytes, media_type: bytes, headers: Iterable[tuple[bytes, bytes]] = (), *, status: int = 200
    ) -> None:
        # The framework's constructor prepares what is not needed here: cookies, encoders, background tasks.
        self._body = body
        self._status = status
        self._headers = [
            (b"content-type", media_type),
            (b"content-length", str(len(body)).encode()),
            *headers,
        ]

    def to_asgi_response(self, *_: object, **__: object) -> ASGIApp:  # type: ignore[override]  # takes what the framework passes, needs none of it
        """Itself."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
