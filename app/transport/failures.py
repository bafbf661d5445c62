"""The one place where errors become HTTP (design decision 6): one shape, and nothing of the request in it."""

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from litestar.exceptions import HTTPException

from app.errors import KeyRefused, Refusal, SessionRefused
from app.metrics import Metrics
from app.protocol.rsa_keys import RsaKeyring
from app.protocol.wire import ErrorAnswer, HandshakeNeeded
from app.transport.body import ClientGone, PlainRequest
from app.transport.wire_answer import JSON, WireAnswer

_CLIENT_CLOSED: Final = 499
_SERVER_FAULT: Final = 500


type Failures = dict[int | type[Exception], Callable[[PlainRequest, Any], WireAnswer]]
type ErrorShape = Callable[[PlainRequest, int, str, Exception], object]
"""Makes an error's body of the request, the status, the text for the caller, and the exception."""


def plain_shape(request: PlainRequest, status: int, detail: str, error: Exception) -> object:
    """`{"detail": ...}`, the same for all errors."""
    del request, status, error
    return ErrorAnswer(detail)


def failure_responses(keyring: RsaKeyring, metrics: Metrics, shape: ErrorShape = plain_shape) -> Failures:
    """Handlers for all exceptions that can leave a route."""

    def refused(request: PlainRequest, refusal: Refusal) -> WireAnswer:
        metrics.refused(refusal.reason)
        headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
        if isinstance(refusal, KeyRefused):
            headers["www-authenticate"] = "Bearer"
        body = shape(request, refusal.status, refusal.detail, refusal)
        if isinstance(refusal, SessionRefused):
            body = HandshakeNeeded(detail=refusal.detail, public_key=keyring.public_pem)
        return _json(body, refusal.status, headers)

    def client_gone(request: PlainRequest, gone: ClientGone) -> WireAnswer:
        metrics.refused("client_gone")
        detail = "the connection was closed by the caller"
        return _json(shape(request, _CLIENT_CLOSED, detail, gone), _CLIENT_CLOSED)

    def framework(request: PlainRequest, error: HTTPException) -> WireAnswer:
        if error.status_code >= _SERVER_FAULT:
            return anything(request, error)
        detail = {404: "no such path", 405: "this path takes another method"}.get(error.status_code, "bad request")
        allow = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
        return _json(shape(request, error.status_code, detail, error), error.status_code, allow)

    def anything(request: PlainRequest, error: Exception) -> WireAnswer:
        metrics.refused("bug")
        detail = f"internal error, request {report_bug(error)}"
        return _json(shape(request, _SERVER_FAULT, detail, error), _SERVER_FAULT)

    return {Refusal: refused, ClientGone: client_gone, HTTPException: framework, Exception: anything}


def report_bug(error: BaseException) -> str:
    """Log what should not have happened; gives the id that the log has it under."""
    request_id = secrets.token_hex(8)
    # The type and the place, never the text: an exception's message may hold what the request held.
    log = structlog.get_logger("app.transport")
    log.error("a bug", request_id=request_id, error=type(error).__name__, where=_where(error))
    return request_id


def _json(body: object, status: int, headers: dict[str, str] | None = None) -> WireAnswer:
    raw = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items())
    return WireAnswer(msgspec.json.encode(body), JSON, raw, status=status)


def _where(error: BaseException) -> list[str]:
    places: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return places[-8:]
