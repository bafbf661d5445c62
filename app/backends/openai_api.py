"""vLLM, Ollama and whatever else speaks the OpenAI API over HTTP: bytes in, bytes out, always streamed."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Final

import aiohttp
import msgspec

from app.backends.openai_wire import ChatRequest, EventStream, ModelList, StreamOptions
from app.domain.backend import BackendStatus, Delta, Generation
from app.errors import BackendRejected, BackendUnavailable

_CONNECT_SECONDS: Final = 5.0
_DISCOVERY_SECONDS: Final = 5.0
_DISCOVERY_INTERVAL: Final = 1.0
_KEEPALIVE_SECONDS: Final = 75.0
_DRAIN_SECONDS: Final = 0.25
_MOST_ANSWER_BYTES: Final = 8 * 1024 * 1024
_MOST_ERROR_BYTES: Final = 64 * 1024
_BYTES_PER_TOKEN: Final = 2
_OK: Final = 200
# Statuses that say that the request is at fault; others (no such model, no key, too busy) are the engine's trouble.
_ABOUT_THE_REQUEST: Final = frozenset({400, 413, 422})
# How vLLM and its like say that prompt and answer don't fit together.
_TOO_LONG: Final = re.compile(
    r"maximum context length|context length is only|exceeds? (?:the )?(?:model's )?context", re.IGNORECASE
)
_PROBE: Final = b'[{"role":"user","content":"Say yes."}]'


class OpenAiSettings(msgspec.Struct, frozen=True):
    """Where the engine is and what to ask it for."""

    base_url: str
    """With `/v1`, without a slash at the end."""
    engine: str
    """The engine's name in messages."""
    model: str | None
    running_usage: bool
    """Whether the engine can report token counts with every chunk (vLLM can)."""


class OpenAiBackend:
    """A `Backend` over HTTP. Redirects are not followed and sizes are bounded (threats 19 and 21)."""

    def __init__(self, settings: OpenAiSettings) -> None:
        self._settings = settings
        self._status = BackendStatus(
            ready=False, loading=True, reason=f"connecting to {settings.engine} at {settings.base_url}"
        )
        self._encoder = msgspec.json.Encoder()
        self._stream_options = StreamOptions(
            include_usage=True, continuous_usage_stats=True if settings.running_usage else msgspec.UNSET
        )
        self._http: aiohttp.ClientSession | None = None
        self._discovery: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start looking for the engine's model; `status` tells when it was found."""
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        self._discovery = asyncio.create_task(self._discover())

    async def close(self) -> None:
        """Close all connections; running generations end."""
        if self._discovery is not None:
            self._discovery.cancel()
            await asyncio.gather(self._discovery, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    def status(self) -> BackendStatus:
        """The engine's model, once it was found."""
        return self._status

    async def probe(self) -> None:
        """One token for real. Errors: `BackendError`."""
        generation = Generation(messages=_PROBE, max_tokens=1, temperature=0.0, top_p=1.0, hard_cut=0.0)
        async with aclosing(self.generate(generation)) as deltas:
            async for delta in deltas:
                if delta.finish is not None:
                    return
        raise BackendUnavailable(f"{self._settings.engine} ended a one-token answer without finishing it")

    async def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        """Stream the text. Errors: `BackendUnavailable`, `BackendRejected`.

        An engine that refuses because prompt and `max_tokens` together are over its context doesn't say how long the
        prompt is (vLLM stops counting at its limit). It is asked once more without `max_tokens`, which then means
        all that is left, and is read up to the number that was wanted.
        """
        try:
            async with self._post(self._body(generation, self._limit(generation))) as response:
                if not await self._is_too_long(response):
                    async for delta in self._deltas(response, generation.max_tokens):
                        yield delta
                    return
            async with self._post(self._body(generation, msgspec.UNSET)) as response:
                if await self._is_too_long(response):
                    raise BackendRejected(self._over_context())
                async for delta in self._deltas(response, generation.max_tokens):
                    yield delta
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BackendUnavailable(f"{self._settings.engine}: {type(error).__name__}") from None

    def _post(self, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._client().post(f"{self._settings.base_url}/chat/completions", data=body, allow_redirects=False)

    def _over_context(self) -> str:
        context = self._status.context_tokens
        limit = f"the model's context of {context} tokens" if context else "the model's context"
        return f"the prompt fills {limit}: send a shorter one"

    def _client(self) -> aiohttp.ClientSession:
        if self._http is None or self._http.closed:
            raise BackendUnavailable(f"the connection to {self._settings.engine} is not open")
        return self._http

    def _limit(self, generation: Generation) -> int | msgspec.UnsetType:
        """`max_tokens` where prompt and answer surely fit together; else unset, which means all that is left."""
        context = self._status.context_tokens
        prompt = (len(generation.messages) + len(generation.tools or b"")) // _BYTES_PER_TOKEN
        fits = not context or prompt + generation.max_tokens <= context
        return generation.max_tokens if fits else msgspec.UNSET

    def _body(self, generation: Generation, max_tokens: int | msgspec.UnsetType) -> bytes:
        return self._encoder.encode(
            ChatRequest(
                model=self._status.model,
                messages=msgspec.Raw(generation.messages),
                max_tokens=max_tokens,
                temperature=generation.temperature,
                top_p=generation.top_p,
                stream=True,
                stream_options=self._stream_options,
                tools=_raw(generation.tools),
                tool_choice=_raw(generation.tool_choice),
                response_format=_raw(generation.response_format),
                stop=generation.stop or msgspec.UNSET,
                seed=msgspec.UNSET if generation.seed is None else generation.seed,
            )
        )

    async def _deltas(self, response: aiohttp.ClientResponse, wanted: int) -> AsyncGenerator[Delta, None]:
        events = EventStream()
        received = 0
        # The end is told once the whole stream was read: token counts come after the finish reason, and a connection
        # is only kept warm when nothing is left in it.
        end = Delta()
        async for data in response.content.iter_any():
            received += len(data)
            if received > _MOST_ANSWER_BYTES:
                raise BackendUnavailable(f"{self._settings.engine} sends an answer without end")
            delta = events.feed(data)
            if delta is not None:
                end = Delta(
                    finish=delta.finish or end.finish,
                    prompt_tokens=delta.prompt_tokens or end.prompt_tokens,
                    completion_tokens=delta.completion_tokens or end.completion_tokens,
                )
                if delta.text or delta.tool_calls:
                    delta.finish = None
                    yield delta
            if events.done:
                await _drain(response)
                break
            if end.completion_tokens > wanted:
                end.finish = "length"
                break
        if end.finish is None:
            raise BackendUnavailable(f"{self._settings.engine} ended the answer in its middle")
        yield end

    async def _is_too_long(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the engine refused for the length; False when it answers. Its own words go no further than here.

        Errors: `BackendRejected` when the request is at fault, `BackendUnavailable` for any other status.
        """
        if response.status == _OK:
            return False
        engine = self._settings.engine
        if response.status not in _ABOUT_THE_REQUEST:
            raise BackendUnavailable(f"{engine} answered with status {response.status}")
        said = (await response.content.read(_MOST_ERROR_BYTES)).decode("utf-8", "replace")
        if _TOO_LONG.search(said) is None:
            raise BackendRejected(f"the engine refuses the request (status {response.status})")
        return True

    async def _discover(self) -> None:
        while True:
            self._status = await self._look()
            await asyncio.sleep(_DISCOVERY_INTERVAL if not self._status.ready else _KEEPALIVE_SECONDS)

    async def _look(self) -> BackendStatus:
        engine, url = self._settings.engine, self._settings.base_url
        try:
            async with (
                asyncio.timeout(_DISCOVERY_SECONDS),
                self._client().get(f"{url}/models", allow_redirects=False) as response,
            ):
                if response.status != _OK:
                    return self._down(f"{engine} at {url} answers /models with status {response.status}")
                models = msgspec.json.decode(await response.content.read(_MOST_ERROR_BYTES), type=ModelList)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._down(
                f"{engine} can't be reached at {url} ({type(error).__name__}): start it, or mend its address"
            )
        except (msgspec.DecodeError, UnicodeError):
            return self._down(f"what answers at {url} is no OpenAI-compatible engine: mend its address")
        return self._choose(models)

    def _choose(self, models: ModelList) -> BackendStatus:
        wanted, names = self._settings.model, [card.id for card in models.data]
        chosen = next((card for card in models.data if card.id == wanted), None)
        if chosen is None and len(models.data) == 1:
            chosen = models.data[0]
        if chosen is None:
            has = ", ".join(names) or "none"
            what = f"model {wanted} not found" if wanted else "DEFAULT_MODEL is not set"
            return self._down(f"{what}, {self._settings.engine} has {has}: set DEFAULT_MODEL to one of them")
        return BackendStatus(ready=True, model=chosen.id, context_tokens=chosen.max_model_len or 0)

    @staticmethod
    def _down(reason: str) -> BackendStatus:
        return BackendStatus(ready=False, reason=reason)


def _raw(data: bytes | None) -> msgspec.Raw | msgspec.UnsetType:
    return msgspec.UNSET if data is None else msgspec.Raw(data)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the end of the body, which follows `[DONE]` at once from every engine that behaves."""
    if response.content.at_eof():
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await response.content.read(1)
