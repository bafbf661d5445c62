"""Errors below /v1 as OpenAI clients read them: one envelope with its four keys, whatever went wrong."""

from typing import Final

import msgspec

from app.errors import KeyRefused, ModelUnknown, ParameterRefused, Refusal
from app.protocol.wire import ErrorAnswer
from app.transport.body import PlainRequest

_ROOT: Final = "/v1"
_SERVER_FAULT: Final = 500
_TYPES: Final = {403: "permission_error", 429: "rate_limit_error"}
_FRAMEWORK_CODES: Final = {404: "unknown_url", 405: "method_not_allowed", 500: "internal_error"}


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong: `message` for people, `code` for programs, `param` where a parameter is at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """Every answer below /v1 that is not a 200, and the last event of a stream that failed."""

    error: ErrorBody


def envelope(status: int, message: str, error: Exception) -> ErrorEnvelope:
    """The envelope of an error with this HTTP status."""
    kind = "server_error" if status >= _SERVER_FAULT else _TYPES.get(status, "invalid_request_error")
    param = error.param if isinstance(error, ParameterRefused) else "model" if isinstance(error, ModelUnknown) else None
    return ErrorEnvelope(ErrorBody(message, kind, param, _code(status, error)))


def shape(request: PlainRequest, status: int, detail: str, error: Exception) -> object:
    """The admin listener's errors: the envelope below /v1, `{"detail": ...}` elsewhere."""
    path = request.scope["path"]
    if path == _ROOT or path.startswith(f"{_ROOT}/"):
        return envelope(status, detail, error)
    return ErrorAnswer(detail)


def _code(status: int, error: Exception) -> str | None:
    match error:
        case ParameterRefused():
            return error.code
        case KeyRefused():
            return "invalid_api_key"
        case ModelUnknown():
            return "model_not_found"
        case Refusal():
            return error.reason
        case _:
            return _FRAMEWORK_CODES.get(status)
