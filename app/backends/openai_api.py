"""vLLM, Ollama and whatever else speaks the OpenAI API over HTTP: bytes in, bytes out, always streamed."""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

import aiohttp
import msgspec

from app.backends.dialects import Dialect
from app.backends.engine_http import EngineHttp
from app.backends.forced_call import held_to_their_schemas, is_forced, with_the_named
from app.backends.gathering import Gathering
from app.backends.openai_wire import ABOUT_THE_REQUEST, ChatRequest, EventStream, StreamOptions
from app.backends.prompt_size import surely_over
from app.domain.backend import BackendStatus, Delta, Generation
from app.errors import BackendRejected, BackendUnavailable, PromptTooLong
from app.secret import Secret

_LOOK_AGAIN_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 10.0
_LEAST_PAUSE_SECONDS: Final = 0.2
_DRAIN_SECONDS: Final = 0.25
_MOST_ANSWER_BYTES: Final = 8 * 1024 * 1024
_MOST_ERROR_BYTES: Final = 64 * 1024
_BYTES_PER_TOKEN: Final = 2
_USUAL_BYTES_PER_TOKEN: Final = 4
_LEAST_SHARE: Final = 4
"""No answer is held to less than this part of the context on the ground of a guess."""
_OK: Final = 200
# How vLLM, Ollama and llama.cpp say that prompt and answer don't fit together.
_TOO_LONG: Final = re.compile(
    r"maximum context length|context length is only|exceeds? (?:the )?(?:available |model's )?context"
    r"|max_tokens=\d+ ?cannot be greater than",
    re.IGNORECASE,
)
_PROBE: Final = b'[{"role":"user","content":"Say yes."}]'
_NO_TOOLS: Final = b'"none"'


class OpenAiBackend:
    """A `Backend` over HTTP. Redirects are not followed and sizes are bounded (threats 19 and 21)."""

    def __init__(
        self,
        dialect: Dialect,
        base_url: str,
        may_connect: Callable[[str], bool] | None = None,
        key: Secret[str] | None = None,
    ) -> None:
        """`base_url` is the engine's address, with or without `/v1`; without `may_connect` any address will do."""
        root = base_url.rstrip("/").removesuffix("/v1")
        self._dialect = dialect
        self._http = EngineHttp(dialect.name, root, may_connect, key)
        self._completions = f"{root}/v1/chat/completions"
        self._status = BackendStatus(ready=False, loading=True, reason=f"connecting to {dialect.name} at {root}")
        self._encoder = msgspec.json.Encoder()
        self._stream_options = StreamOptions(
            include_usage=True, continuous_usage_stats=True if dialect.running_usage else msgspec.UNSET
        )
        self._look_again = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start looking for the engine's model; `status` tells when it was found."""
        await self._http.open()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Close all connections; running generations end."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
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
        raise BackendUnavailable(f"{self._dialect.name} ended a one-token answer without finishing it")

    async def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        """Stream the text. Errors: `BackendUnavailable`, `BackendRejected`.

        An engine that refuses because prompt and `max_tokens` together are over its context doesn't say how long the
        prompt is (vLLM stops counting at its limit). It is asked once more without `max_tokens`, which then means
        all that is left, and is read up to the number that was wanted.
        """
        if not self._dialect.refuses_too_long and surely_over(self._status.context_tokens, generation.messages):
            raise PromptTooLong(self._over_context())  # Ollama would cut it without a word
        limit = self._limit(generation)
        try:
            async with await self._http.post(self._completions, self._body(generation, limit)) as response:
                too_long = await self._is_too_long(response)
                if not too_long:
                    async for delta in self._deltas(response, generation):
                        yield delta
                    return
            if limit is msgspec.UNSET or not self._dialect.refuses_too_long:
                raise PromptTooLong(self._over_context())
            async with await self._http.post(self._completions, self._body(generation, msgspec.UNSET)) as response:
                if await self._is_too_long(response):
                    raise PromptTooLong(self._over_context())
                async for delta in self._deltas(response, generation):
                    yield delta
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._look_again.set()
            raise BackendUnavailable(f"{self._dialect.name}: {type(error).__name__}") from None
        except BackendUnavailable:
            self._look_again.set()
            raise

    def _over_context(self) -> str:
        context = self._status.context_tokens
        limit = f"the model's context of {context} tokens" if context else "the model's context"
        return f"the prompt fills {limit}: send a shorter one"

    def _limit(self, generation: Generation) -> int | msgspec.UnsetType:
        """What to send as `max_tokens`; unset, where the engine knows better, means all that is left."""
        context = self._status.context_tokens
        prompt = len(generation.messages) + len(generation.tools or b"")
        if self._dialect.refuses_too_long:
            fits = not context or prompt // _BYTES_PER_TOKEN + generation.max_tokens <= context
            return generation.max_tokens if fits else msgspec.UNSET
        # Unset would mean without end here, and past its context Ollama forgets the beginning and writes on.
        room = max(context - prompt // _USUAL_BYTES_PER_TOKEN, context // _LEAST_SHARE)
        return min(generation.max_tokens, room) if context else generation.max_tokens

    def _body(self, generation: Generation, max_tokens: int | msgspec.UnsetType) -> bytes:
        # Ollama reads no tool_choice, so "none" must leave the tools out; to vLLM it means the same.
        choice = generation.tool_choice
        tools = None if choice == _NO_TOOLS else generation.tools
        if tools is not None and choice is not None and is_forced(choice):
            tools = held_to_their_schemas(tools)
            if not self._status.forces_by_name:
                tools, choice = with_the_named(tools, choice)
        return self._encoder.encode(
            ChatRequest(
                model=self._status.model,
                messages=msgspec.Raw(generation.messages),
                max_tokens=max_tokens,
                temperature=generation.temperature,
                top_p=generation.top_p,
                stream=True,
                stream_options=self._stream_options,
                tools=_raw(tools),
                tool_choice=_raw(choice) if tools is not None else msgspec.UNSET,
                response_format=_raw(generation.response_format),
                stop=generation.stop or msgspec.UNSET,
                seed=msgspec.UNSET if generation.seed is None else generation.seed,
            )
        )

    async def _deltas(self, response: aiohttp.ClientResponse, generation: Generation) -> AsyncGenerator[Delta, None]:
        events = EventStream()
        gathering = Gathering(response, generation.gather_until)
        received = 0
        # The end is told once the whole stream was read: token counts come after the finish reason, and a connection
        # is only kept warm when nothing is left in it.
        end = Delta()
        while data := await response.content.readany():
            received += len(data)
            if received > _MOST_ANSWER_BYTES:
                raise BackendUnavailable(f"{self._dialect.name} sends an answer without end")
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
            written = end.completion_tokens or events.texts  # llama.cpp's own server counts at the end only
            if written > generation.max_tokens:
                end.finish, end.completion_tokens = "length", written
                break
            if seconds := gathering.seconds(events.pieces):
                await gathering.pause(seconds)
        if end.finish is None:
            raise BackendUnavailable(f"{self._dialect.name} ended the answer in its middle")
        yield end

    async def _is_too_long(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the engine refused for the length; False when it answers. Its own words go no further than here.

        Errors: `BackendRejected` when the request is at fault, `BackendUnavailable` for any other status.
        """
        if response.status == _OK:
            return False
        if response.status not in ABOUT_THE_REQUEST:
            raise BackendUnavailable(f"{self._dialect.name} answered with status {response.status}")
        said = (await response.content.read(_MOST_ERROR_BYTES)).decode("utf-8", "replace")
        if _TOO_LONG.search(said) is None:
            raise BackendRejected(f"the engine refuses the request (status {response.status})")
        return True

    async def _watch(self) -> None:
        """Look at the engine again and again, and at once when a request saw it fail."""
        while True:
            self._look_again.clear()
            self._status = await self._look()
            await asyncio.sleep(_LEAST_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS if self._status.ready else _LOOK_AGAIN_SECONDS):
                    await self._look_again.wait()

    async def _look(self) -> BackendStatus:
        try:
            return await self._dialect.look(self._http, self._tell)
        except BackendUnavailable as down:
            reason = str(down)
        except TimeoutError:
            if self._status.ready:  # slow only: the probe, which asks for a token, decides
                return self._status
            reason = f"{self._dialect.name} at {self._http.root} does not answer: look at its log"
        return BackendStatus(ready=False, reason=reason, address=self._http.root)

    def _tell(self, status: BackendStatus) -> None:
        self._status = status


def _raw(data: bytes | None) -> msgspec.Raw | msgspec.UnsetType:
    return msgspec.UNSET if data is None else msgspec.Raw(data)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the end of the body, which follows `[DONE]` at once from every engine that behaves."""
    if response.content.at_eof():
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await response.content.read(1)
