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
from litestar.openapi.spec import License, OpenAPIMediaType, Operation, Parameter, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from app import __version__
from app.domain.answer import Answer
from app.protocol.wire import (
    AVAILABILITY_HOTKEY_HEADER,
    SYMMETRIC_KEY_UUID_HEADER,
    VALIDATOR_HOTKEY_HEADER,
    ErrorAnswer,
    HandshakeNeeded,
)
from app.transport.body_schemas import body_schemas

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
CHALLENGE_HEADERS: Final = (VALIDATOR_HOTKEY_HEADER, SYMMETRIC_KEY_UUID_HEADER)
_SCHEMAS: Final = "#/components/schemas/"
_TEXTS: Final = {
    200: "The answer, whole or cut",
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
    """What a route documents to answer, by status; 200 stands for an answer to a challenge."""
    bodies: dict[int, type[msgspec.Struct]] = {200: Answer, 401: HandshakeNeeded}
    return {
        status: ResponseSpec(
            data_container=bodies.get(status, ErrorAnswer), description=_TEXTS[status], generate_examples=False
        )
        for status in statuses
    }


def _header(name: str) -> Parameter:
    return Parameter(name=name, param_in="header", required=False, schema=Schema(type=OpenAPIType.STRING))


def _body(media_type: str, schema: Schema | Reference) -> RequestBody:
    return RequestBody(content={media_type: OpenAPIMediaType(schema=schema)}, required=True)


@dataclass
class KeyExchangeBody(Operation):
    """A route whose body is a handshake, read by the protocol layer rather than by the framework."""

    def __post_init__(self) -> None:
        self.request_body = _body("application/json", Reference(ref=f"{_SCHEMAS}KeyExchange"))


@dataclass
class ChallengeBody(Operation):
    """A route whose body is a challenge in plaintext, read by the domain rather than by the framework."""

    def __post_init__(self) -> None:
        self.request_body = _body("application/json", Reference(ref=f"{_SCHEMAS}Challenge"))
        self.parameters = [_header(AVAILABILITY_HOTKEY_HEADER)]


@dataclass
class TokenBody(Operation):
    """A route whose body is a Fernet token, of the session named in the headers."""

    def __post_init__(self) -> None:
        self.parameters = [_header(name) for name in CHALLENGE_HEADERS]
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

        page = functools.partial(get, include_in_schema=False, sync_to_thread=True)

        @page("/openapi.json")
        def openapi() -> Response[bytes]:
            return Response(description(), media_type=MediaType.JSON)

        @page("/docs")
        def docs() -> Response[bytes]:
            return self._page("docs.html")

        @page("/redoc")
        def redoc() -> Response[bytes]:
            return self._page("redoc.html")

        @page("/docs/assets/{name:str}")
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
        document = described.openapi_schema.to_schema()
        document["components"]["schemas"] |= body_schemas(f"{_SCHEMAS}{{name}}")
        return msgspec.json.encode(document)
