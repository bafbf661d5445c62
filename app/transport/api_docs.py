"""The API's description and its two pages, served from vendored files: nothing comes from outside (decision 13)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import msgspec
from litestar import Litestar, MediaType, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import License, OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from app import __version__
from app.protocol.wire import ErrorAnswer, HandshakeNeeded

_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-start.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
_CONTENT_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; worker-src blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_SESSION_STATUS: Final = 401
_TEXTS: Final = {
    400: "The handshake does not verify or decrypt; one text for every cause",
    401: "No such session, or the token does not open: shake hands again with this public key",
    403: "Not allowed",
    408: "The body came too slowly",
    409: "The same ciphertext came before",
    413: "The body is too large",
    415: "Only the identity encoding is read",
    422: "Readable, but nothing that can be answered",
    429: "Over the rate limit; Retry-After says when to come back",
    503: "Not now; Retry-After says when to come back",
}


def answers(*statuses: int) -> dict[int, ResponseSpec]:
    """The refusals that a route documents, by status."""
    return {status: _refusal(status) for status in statuses}


def _refusal(status: int) -> ResponseSpec:
    body = HandshakeNeeded if status == _SESSION_STATUS else ErrorAnswer
    return ResponseSpec(data_container=body, description=_TEXTS[status], generate_examples=False)


def _body(media_type: str, schema: Schema) -> RequestBody:
    return RequestBody(content={media_type: OpenAPIMediaType(schema=schema)}, required=True)


@dataclass
class JsonBody(Operation):
    """A route whose body is a JSON object, read by the protocol layer rather than by the framework."""

    def __post_init__(self) -> None:
        self.request_body = _body("application/json", Schema(type=OpenAPIType.OBJECT))


@dataclass
class BinaryBody(Operation):
    """A route whose body is bytes."""

    def __post_init__(self) -> None:
        self.request_body = _body(
            "application/octet-stream", Schema(type=OpenAPIType.STRING, content_encoding="binary")
        )


class ApiPages:
    """/openapi.json, /docs and /redoc over the given routes. The description is made when first asked for."""

    def __init__(self, routes: Callable[[], list[HTTPRouteHandler]]) -> None:
        self._routes = routes
        self._files = files("app") / "web" / "apidocs"

    def handlers(self) -> list[HTTPRouteHandler]:
        """The pages and the files they load."""
        description = functools.cache(self._describe)

        @get("/openapi.json", include_in_schema=False, sync_to_thread=True)
        def openapi() -> Response[bytes]:
            return Response(description(), media_type=MediaType.JSON)

        @get("/docs", include_in_schema=False, sync_to_thread=True)
        def docs() -> Response[bytes]:
            return self._page("docs.html")

        @get("/redoc", include_in_schema=False, sync_to_thread=True)
        def redoc() -> Response[bytes]:
            return self._page("redoc.html")

        @get("/docs/assets/{name:str}", include_in_schema=False, sync_to_thread=True)
        def asset(name: str) -> Response[bytes]:
            media_type = _ASSETS.get(name)
            if media_type is None:
                raise NotFoundException
            headers = {"cache-control": "max-age=86400"}
            return Response((self._files / name).read_bytes(), media_type=media_type, headers=headers)

        return [openapi, docs, redoc, asset]

    def _page(self, name: str) -> Response[bytes]:
        headers = {"content-security-policy": _CONTENT_POLICY}
        return Response((self._files / name).read_bytes(), media_type=MediaType.HTML, headers=headers)

    def _describe(self) -> bytes:
        config = OpenAPIConfig(
            title="Loosh Miner",
            version=__version__,
            description="What a validator of subnet 78 asks a miner. Bodies of /fiber/challenge are Fernet tokens.",
            license=License(name="MIT", identifier="MIT"),
        )
        # An app of its own: the framework's own pages load from elsewhere and answer unknown paths in HTML.
        described = Litestar(self._routes(), openapi_config=config, logging_config=None)
        return msgspec.json.encode(described.openapi_schema.to_schema())
