"""/v1 for OpenAI clients, on the admin listener only: the operator's own use of the model."""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from app.clock import Clock
from app.domain.answer import Usage
from app.domain.backend import BackendStatus
from app.domain.completion import Completed, Completing
from app.domain.completion_request import CompletionReader
from app.errors import EncodingUnsupported, KeyRefused, ModelUnknown
from app.secret import Secret
from app.transport.body import BodyLimits, PlainRequest, read_body
from app.transport.disconnect import while_connected
from app.transport.openai_schemas import Choice, Completion, Identity, Message, Model, ModelList
from app.transport.openai_stream import Events, StreamedCompletion

_JSON: Final = "application/json"
_BODY_BYTES: Final = 8 * 1024 * 1024
_ID_BYTES: Final = 16


class OpenAiRoutes:
    """Builds the handlers. `model` in a request is not looked at: the miner has one model, and the answer names it."""

    def __init__(
        self,
        *,
        completing: Completing,
        status: Callable[[], BackendStatus],
        key: Secret[str] | None,
        body_seconds: float,
        fingerprint: str,
        clock: Clock,
    ) -> None:
        self._completing = completing
        self._status = status
        self._key = key
        self._limits = BodyLimits(_BODY_BYTES, body_seconds)
        self._fingerprint = fingerprint
        self._clock = clock
        self._started = int(clock.wall())
        self._reader = CompletionReader()
        self._encoder = msgspec.json.Encoder()

    def handlers(self) -> list[HTTPRouteHandler]:
        """All routes of /v1."""

        @post("/v1/chat/completions", status_code=200)
        async def completions(request: PlainRequest) -> Response[bytes]:
            self._authorize(request)
            _only_json(request)
            wanted = self._reader.read(await read_body(request, self._limits))
            if wanted.stream:
                events = Events(self._identity(), include_usage=wanted.include_usage)
                return StreamedCompletion(request, self._completing.stream(wanted), events)
            identity = self._identity()
            completed = await while_connected(request, self._completing.complete(wanted))
            return Response(self._encoder.encode(_completion(identity, completed)), media_type=_JSON)

        @get("/v1/models")
        async def models(request: PlainRequest) -> Response[ModelList]:
            self._authorize(request)
            return Response(ModelList(data=self._models()))

        @get("/v1/models/{name:path}")
        async def model(request: PlainRequest, name: str) -> Response[Model]:
            self._authorize(request)
            for one in self._models():
                if one.id == name.removeprefix("/"):
                    return Response(one)
            raise ModelUnknown("there is no such model: GET /v1/models has the name of the one there is")

        return [completions, models, model]

    def _authorize(self, request: PlainRequest) -> None:
        if self._key is None:
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._key.reveal()}".encode()):
            raise KeyRefused("this needs `Authorization: Bearer` with the miner's API_KEY")

    def _models(self) -> list[Model]:
        name = self._status().model
        return [Model(id=name, created=self._started)] if name else []

    def _identity(self) -> Identity:
        return Identity(
            id=f"chatcmpl-{secrets.token_hex(_ID_BYTES)}",
            created=int(self._clock.wall()),
            model=self._status().model,
            system_fingerprint=self._fingerprint,
        )


def _only_json(request: PlainRequest) -> None:
    """Refuse what a page in the operator's browser could send here without asking (threat 20)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON:
        raise EncodingUnsupported(f"Content-Type must be {_JSON}", reason="content_type")


def _completion(identity: Identity, completed: Completed) -> Completion:
    calls = completed.tool_calls
    message = Message(
        content=completed.text if completed.text or not calls else None, tool_calls=calls or msgspec.UNSET
    )
    total = completed.prompt_tokens + completed.completion_tokens
    return Completion(
        id=identity.id,
        created=identity.created,
        model=identity.model,
        system_fingerprint=identity.system_fingerprint,
        choices=(Choice(message=message, finish_reason=completed.finish),),
        usage=Usage(completed.prompt_tokens, completed.completion_tokens, total),
    )
