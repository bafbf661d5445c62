"""What goes past the framework gets the same answers as what goes through it."""

from typing import Any

import pytest
from litestar import Litestar, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Message

from app.errors import KeyRefused, RateLimited, SessionRefused
from app.metrics import Metrics
from app.protocol.rsa_keys import RsaKeyring
from app.transport.body import BodyLimits, ClientGone, PlainRequest, read_body
from app.transport.direct import DirectRoutes
from app.transport.failures import Failures, failure_responses
from app.transport.wire_answer import OCTETS, WireAnswer

FAULTS = {
    b"session": SessionRefused("shake hands again"),
    b"limit": RateLimited("wait", retry_after=7),
    b"key": KeyRefused("no such key"),
    b"gone": ClientGone(),
}
BUG = b"bug"


@pytest.fixture(scope="module")
def failures() -> Failures:
    return failure_responses(RsaKeyring(lambda: 0.0), Metrics())


def echo() -> HTTPRouteHandler:
    """A route that answers with its body, or raises what the body names."""

    @post("/echo", status_code=200)
    async def handler(request: PlainRequest) -> WireAnswer:
        body = await read_body(request, BodyLimits(100, 1))
        if body in FAULTS:
            raise FAULTS[body]
        if body == BUG:
            raise ZeroDivisionError("with a secret")
        return WireAnswer(body, OCTETS, [(b"x-one", b"1")])

    return handler


async def ask(app: ASGIApp, body: bytes, method: str = "POST", path: str = "/echo") -> list[Message]:
    """All that the app sends for one request."""
    sent: list[Message] = []

    async def receive() -> Any:  # noqa: ANN401
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "state": {},
        "headers": [(b"host", b"miner"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    return sent


def both(failures: Failures) -> tuple[Litestar, DirectRoutes]:
    """The framework with the route, and the way past it; behind that one stands a framework that lacks the route."""
    handler = echo()
    plain: Any = {**failures}
    framework = Litestar([handler], openapi_config=None, exception_handlers=plain, logging_config=None)
    empty = Litestar([], openapi_config=None, exception_handlers=plain, logging_config=None)
    return framework, DirectRoutes(empty, [handler], failures)


@pytest.mark.parametrize("body", [b"hello", b"", b"x" * 101, *FAULTS])
async def test_both_ways_give_the_same_answer(failures: Failures, body: bytes) -> None:
    framework, direct = both(failures)
    assert await ask(direct, body) == await ask(framework, body)


async def test_a_bug_is_a_500_that_tells_nothing(failures: Failures) -> None:
    _, direct = both(failures)
    start, end = await ask(direct, BUG)
    assert start["type"] == "http.response.start"
    assert start["status"] == 500
    assert end["type"] == "http.response.body"
    assert b"secret" not in end["body"]
    assert b"internal error, request " in end["body"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/echo"), ("POST", "/other"), ("POST", "/echo/")])
async def test_all_else_is_the_frameworks(failures: Failures, method: str, path: str) -> None:
    framework, direct = both(failures)
    beside = DirectRoutes(framework, [echo()], failures)
    assert await ask(beside, b"x", method, path) == await ask(framework, b"x", method, path)
    start, _ = await ask(direct, b"x", method, path)
    assert start["type"] == "http.response.start"
    assert start["status"] == 404
