"""A stand-in for vLLM's server: `python -m tests.stubs.engine`, a process of its own.

It speaks the part of vLLM's OpenAI API that a miner uses, over real sockets and in vLLM's words (those of 0.32, which
`just test-vllm` compares): models, health, chat completions in one piece and as server-sent events, usage, and
refusals. Beside that listener stands a second
one, the control port: `GET /stub` tells what the engine saw (how many ran at once, who hung up and when), and
`POST /stub` changes how it behaves, so that a test decides how an engine fails. When ready it prints one line of
JSON with both ports; it ends when its standard input closes, so that no test can leave it behind.

It is raw asyncio on purpose: on the machine under test the stub must cost little beside the miner.
"""

import argparse
import asyncio
import contextlib
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, cast

import msgspec
import uvloop

Fault = Literal[
    "none",
    "refuse",  # the port is closed
    "reset",  # the connection is reset as soon as the request is read
    "stall",  # the request is read and nothing is ever answered
    "stall_mid",  # half of the text, then silence
    "drip",  # the stream comes a byte a second
    "garbage",  # not HTTP
    "garbage_stream",  # HTTP 200 and events that are not JSON
    "half_json",  # an event that stops in the middle, then the end
    "bad_shape",  # JSON events of the wrong shape
    "huge_line",  # an event without an end
    "error_500",
    "error_503",
    "error_stream",  # vLLM's error event in the middle of the stream
    "refused_stream",  # vLLM's refusal of a schema, which comes as an event after its 200
    "wrong_model",
    "over_context",
    "redirect",
    "die",  # the connection goes away in the middle of the stream
    "empty",  # a proper answer without any text
    "surrogate",  # the text holds a lone surrogate, escaped as JSON allows
]
"""The ways to fail that can be asked for."""

ENGINE_SECRET: Final = "stub-engine-internal-detail"
"""Stands in every error text of the stub: it must never reach a validator."""

SENTENCE: Final = "A subnet is a market of its own, with miners that answer and validators that judge. "
TOKEN_BYTES: Final = 4
"""Bytes that the stub counts as one token, in answers always and in prompts unless told otherwise."""
HUGE: Final = 64 * 1024 * 1024


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the next requests are answered."""

    first_token_ms: float = 0
    token_ms: float = 0
    """Pause between two chunks; 0 writes them all at once."""
    chunks: int = 1
    text_bytes: int = 2048
    text: str | None = None
    """Instead of the usual text."""
    echo: bool = False
    """The answer is the last user message."""
    endless: bool = False
    """A token each `token_ms` until the caller hangs up, whatever max_tokens says."""
    sentence_every: int = 0
    """An endless text ends a sentence each so many tokens; 0 never does."""
    tool_call: bool = False
    """Answer a request that brings tools by calling the first of them."""
    fault: Fault = "none"
    health_status: int = 200
    healthy_workers: int | None = None
    """What vllm-router says at `/readiness`; vLLM itself has no such route."""


class Ended(msgspec.Struct, kw_only=True):
    """One generation that is over. Times are those of `time.time()`."""

    started: float
    ended: float
    tokens: int
    how: Literal["done", "disconnected", "fault"]


class Stats(msgspec.Struct, kw_only=True):
    """What the engine saw since the last reset; a request of one message for one token is a probe, counted apart."""

    requests: int = 0
    probes: int = 0
    running: int = 0
    max_running: int = 0
    tokens: int = 0
    refused: int = 0
    followed_redirects: int = 0
    last_request: dict[str, Any] = {}
    """The last request's parameters, without messages, and the number of tools."""
    ended: list[Ended] = []


class Request(msgspec.Struct):
    """The part of a chat completion request that the stub looks at."""

    model: str = ""
    messages: list[dict[str, Any]] = []
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    response_format: Any = None
    stop: Any = None
    seed: int | None = None

    @property
    def wanted_tokens(self) -> int | None:
        """What the caller asked for, under either name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class Refused(Exception):
    """The engine answers with an error."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param


def text_of_last_user(messages: list[dict[str, Any]]) -> str:
    """What the last user message says, its parts joined."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content: Any = message.get("content")
            if isinstance(content, str):
                return content
            if isinstance(content, list):
                return "".join(str(part.get("text", "")) for part in msgspec.convert(content, list[dict[str, Any]]))
    return ""


def http(status: int, body: bytes, kind: str = "application/json", extra: str = "") -> bytes:
    """A whole HTTP response."""
    head = f"HTTP/1.1 {status} Stub\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def readiness(healthy: int) -> bytes:
    """vllm-router's answer at `/readiness`, as 0.1.17 gives it, with two engines."""
    if healthy:
        return http(200, b'{"status":"ready","healthy_workers":%d,"total_workers":2}' % healthy)
    return http(503, b'{"status":"not_ready","reason":"no healthy workers available","total_workers":2}')


def http_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
STREAM_END: Final = b"0\r\n\r\n"


class Engine:
    """The engine: its behaviour, what it saw, and the one place that answers requests."""

    def __init__(self, model: str, max_model_len: int, bytes_per_token: int, *, refuse_sum: bool) -> None:
        self.model = model
        self.refuse_sum = refuse_sum
        self.max_model_len = max_model_len
        self.bytes_per_token = bytes_per_token
        self.behaviour = Behaviour()
        self.stats = Stats()
        self.ended: deque[Ended] = deque(maxlen=5000)
        self.following: deque[Behaviour] = deque()
        self.connections: set[EngineConnection] = set()
        self.api_key = ""
        """What callers of `/v1` must send; nothing: they need no key."""
        self.llama_cpp = False
        self.knows_tools = True

    def snapshot(self) -> bytes:
        """`GET /stub`."""
        self.stats.ended = list(self.ended)
        return msgspec.json.encode(self.stats)

    def reset(self) -> None:
        """Forget what was seen; what runs now is counted on."""
        self.stats = Stats(running=self.stats.running, max_running=self.stats.running)
        self.ended.clear()

    def next_behaviour(self) -> Behaviour:
        """How the request at hand is answered."""
        return self.following.popleft() if self.following else self.behaviour

    def behaviour_of_probe(self) -> Behaviour:
        """A probe meets the same faults, but an engine that is only slow or busy answers one token at once."""
        return Behaviour(text="Yes", fault=self.behaviour.fault)

    def check(self, body: bytes) -> tuple[Request, int]:
        """Refuse what vLLM refuses; gives the request and its prompt's length in tokens."""
        try:
            request = msgspec.json.decode(body, type=Request)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"{ENGINE_SECRET}: {error}") from error
        self.check_values(request)
        prompt = len(msgspec.json.encode(request.messages)) // self.bytes_per_token
        self.check_length(prompt, request.wanted_tokens)
        return request, prompt

    def check_length(self, prompt: int, wanted: int | None) -> None:
        """Refuse what does not fit, as vLLM does: it reads no more of a prompt than it needs to know that.

        Today's lets `max_tokens` mean no more than is left; older ones refused the sum.
        """
        context = self.max_model_len
        if wanted is not None and wanted < 1:
            raise Refused(400, f"max_tokens must be at least 1, got {wanted}. {ENGINE_SECRET}")
        if wanted is not None and wanted > context:
            raise Refused(
                400,
                f"max_tokens={wanted} cannot be greater than max_model_len={context}. "
                f"Please request fewer output tokens. (parameter=max_tokens, value={wanted})",
                param="max_tokens",
            )
        if prompt >= context:
            seen = context + 1
            raise Refused(
                400,
                f"This model's maximum context length is {context} tokens. However, your prompt contains at least "
                f"{seen} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
                f"length of the input prompt. (parameter=input_tokens, value={seen})",
                param="input_tokens",
            )
        if not self.refuse_sum:
            return
        seen = min(prompt, context - (wanted or 0) + 1)
        if seen + (wanted or 0) > context:
            raise Refused(
                400,
                f"This model's maximum context length is {context} tokens. However, you requested {wanted or 0} "
                f"output tokens and your prompt contains at least {seen} input tokens, for a total of at least "
                f"{seen + (wanted or 0)} tokens. Please reduce the length of the input prompt or the number of "
                f"requested output tokens. (parameter=input_tokens, value={seen})",
            )

    def check_values(self, request: Request) -> None:
        """The model, the sampling parameters and the shape of the messages."""
        if request.model != self.model:
            text = f"The model `{request.model}` does not exist. Valid aliases: {self.model}. {ENGINE_SECRET}"
            raise Refused(404, text, "NotFoundError", "model")
        if not request.messages:
            raise Refused(400, f"messages must not be empty. {ENGINE_SECRET}")
        if request.temperature is not None and request.temperature < 0:
            raise Refused(400, f"temperature must be non-negative, got {request.temperature}. {ENGINE_SECRET}")
        if request.top_p is not None and not 0 < request.top_p <= 1:
            raise Refused(400, f"top_p must be in (0, 1], got {request.top_p}. {ENGINE_SECRET}")
        for message in request.messages:
            content: Any = message.get("content")
            if not isinstance(message.get("role"), str) or not isinstance(content, str | list | None):
                raise Refused(400, f"messages: input should be a valid string. {ENGINE_SECRET}")

    def answer_text(self, behaviour: Behaviour, request: Request) -> tuple[str, str]:
        """The whole text and its finish reason."""
        if behaviour.text is not None:
            text = behaviour.text
        elif behaviour.echo:
            text = text_of_last_user(request.messages)
        else:
            text = (SENTENCE * (behaviour.text_bytes // len(SENTENCE) + 1))[: behaviour.text_bytes]
        wanted = request.wanted_tokens
        if wanted is not None and len(text) > wanted * TOKEN_BYTES and not behaviour.echo:
            return text[: wanted * TOKEN_BYTES], "length"
        return text, "stop"


class Generation:
    """One answer being written to one connection."""

    def __init__(self, engine: Engine, connection: "EngineConnection", request: Request, prompt: int) -> None:
        self.engine = engine
        self.write = connection.write
        self.abort = connection.abort
        self.request = request
        self.prompt = prompt
        self.probe = request.wanted_tokens == 1 and len(request.messages) == 1
        self.behaviour = engine.behaviour_of_probe() if self.probe else engine.next_behaviour()
        self.tokens = 0
        self.started = time.time()
        self.name = f"chatcmpl-{engine.stats.requests + engine.stats.probes:032x}"

    @property
    def at_once(self) -> bool:
        """Whether the answer is written in one go, without a task of its own."""
        behaviour = self.behaviour
        return behaviour.fault == "none" and not (behaviour.endless or behaviour.first_token_ms or behaviour.token_ms)

    def began(self) -> None:
        """Count the request."""
        stats = self.engine.stats
        stats.last_request = {
            name: getattr(self.request, name)
            for name in self.request.__struct_fields__
            if name not in {"model", "messages", "tools", "stream_options"}
        }
        tools = self.request.tools or []
        stats.last_request["tools"] = len(tools)
        stats.last_request["strict_tools"] = sum(tool["function"].get("strict") is True for tool in tools)
        if self.probe:
            stats.probes += 1
            return
        stats.requests += 1
        stats.running += 1
        stats.max_running = max(stats.max_running, stats.running)

    def over(self, how: Literal["done", "disconnected", "fault"]) -> None:
        """Count the request out."""
        if self.probe:
            return
        engine = self.engine
        engine.stats.running -= 1
        engine.stats.tokens += self.tokens
        engine.ended.append(Ended(started=self.started, ended=time.time(), tokens=self.tokens, how=how))

    def event(self, delta: dict[str, Any], finish: str | None = None, **more: object) -> bytes:
        """One server-sent event of the stream, as vLLM writes it; `more` are further fields of the chunk."""
        choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        if finish is not None:
            choice["stop_reason"] = None
        if "role" not in delta:
            choice["token_ids"] = None
        if self.options.get("continuous_usage_stats") and not self.behaviour.endless:  # else it would count itself out
            more = {"usage": self.usage() | {"completion_tokens_details": None}} | more
        return self.chunk([choice], **more)

    def opening(self) -> bytes:
        """The first event, before any text."""
        return self.event({"role": "assistant", "content": ""}, prompt_token_ids=None, prompt_text=None)

    def chunk(self, choices: list[dict[str, Any]], **more: object) -> bytes:
        """An event with what all of them say."""
        chunk: dict[str, Any] = {
            "id": self.name,
            "object": "chat.completion.chunk",
            "created": int(self.started),
            "model": self.engine.model,
            "choices": choices,
        }
        return b"data: " + msgspec.json.encode(chunk | more) + b"\n\n"

    @property
    def options(self) -> dict[str, Any]:
        """The request's stream options."""
        return self.request.stream_options or {}

    def usage(self) -> dict[str, int]:
        """The usage object."""
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.tokens,
            "completion_tokens": self.tokens,
        }

    def last_events(self, finish: str) -> bytes:
        """The end of a stream: finish reason, usage where asked for, and the done mark."""
        version = {"system_fingerprint": "vllm-0.32.0-91a81e0a"}  # in the last event, whichever that is
        if self.options.get("include_usage"):
            out = self.event({}, finish) + self.chunk([], usage=self.usage(), **version)
        else:
            out = self.event({}, finish, **version)
        return out + b"data: [DONE]\n\n"

    def deltas(self) -> tuple[list[dict[str, Any]], str]:
        """The pieces of the answer, and the finish reason."""
        tools = self.request.tools
        if self.behaviour.tool_call and tools and self.request.tool_choice != "none":
            name = tools[0]["function"]["name"]
            self.tokens = 12
            call = {"id": "chatcmpl-tool-1", "type": "function", "index": 0, "function": {"name": name}}
            parts = ('{"city": ', '"Oslo"}')
            calls = [[call], *([{"index": 0, "function": {"arguments": part}}] for part in parts)]
            named = isinstance(self.request.tool_choice, dict)
            return [{"content": None, "tool_calls": one} for one in calls], "stop" if named else "tool_calls"
        text, finish = self.engine.answer_text(self.behaviour, self.request)
        self.tokens = max(1, len(text) // TOKEN_BYTES)
        size = max(1, -(-len(text) // max(1, self.behaviour.chunks)))
        return [{"content": text[at : at + size]} for at in range(0, len(text), size)], finish

    def whole(self) -> bytes:
        """The answer without streaming, as one HTTP response."""
        deltas, finish = self.deltas()
        text = "".join(delta.get("content") or "" for delta in deltas)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if any("tool_calls" in delta for delta in deltas):
            name = (self.request.tools or [])[0]["function"]["name"]
            function = {"name": name, "arguments": '{"city": "Oslo"}'}
            message["tool_calls"] = [{"id": "chatcmpl-tool-1", "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        answer = {
            "id": self.name,
            "object": "chat.completion",
            "created": int(self.started),
            "model": self.engine.model,
            "choices": [choice],
            "usage": self.usage(),
        }
        return http(200, msgspec.json.encode(answer))

    def write_at_once(self) -> None:
        """The whole answer in one go."""
        if not self.request.stream:
            self.write(self.whole())
            return
        deltas, finish = self.deltas()
        total, self.tokens = self.tokens, 0
        parts = [STREAM_HEAD, http_chunk(self.opening())]
        for at, delta in enumerate(deltas):
            self.tokens = total * (at + 1) // len(deltas)
            parts.append(http_chunk(self.event(delta)))
        parts += [http_chunk(self.last_events(finish)), STREAM_END]
        self.write(b"".join(parts))

    async def run(self) -> None:
        """The answer with its pauses and faults."""
        behaviour = self.behaviour
        await asyncio.sleep(behaviour.first_token_ms / 1000)
        if behaviour.fault != "none":
            await FAULTS[behaviour.fault](self)
        elif behaviour.endless:
            await self.endless()
        elif self.request.stream:
            await self.stream()
        else:
            self.write(self.whole())

    async def stream(self, stop_at: int | None = None) -> None:
        """The chunks with their pauses; `stop_at` leaves the rest of them unsaid."""
        deltas, finish = self.deltas()
        total, self.tokens = self.tokens, 0
        self.write(STREAM_HEAD + http_chunk(self.opening()))
        for at, delta in enumerate(deltas):
            if at == stop_at:
                return
            if at and self.behaviour.token_ms:
                await asyncio.sleep(self.behaviour.token_ms / 1000)
            self.tokens = total * (at + 1) // len(deltas)
            self.write(http_chunk(self.event(delta)))
        self.write(http_chunk(self.last_events(finish)) + STREAM_END)

    async def endless(self) -> None:
        """A text without an end."""
        self.write(STREAM_HEAD + http_chunk(self.opening()))
        every = self.behaviour.sentence_every
        while True:
            self.tokens += 1
            text = "end. " if every and self.tokens % every == 0 else "on "
            self.write(http_chunk(self.event({"content": text})))
            await asyncio.sleep(self.behaviour.token_ms / 1000)


async def fault_reset(generation: Generation) -> None:
    """A connection reset."""
    generation.abort()


async def fault_stall(_: Generation) -> None:
    """Silence."""
    await asyncio.sleep(3600)


async def fault_stall_mid(generation: Generation) -> None:
    """Half of the text, then silence."""
    await generation.stream(max(1, generation.behaviour.chunks // 2))
    await asyncio.sleep(3600)


async def fault_drip(generation: Generation) -> None:
    """The stream, a byte a second."""
    generation.write(STREAM_HEAD)
    for byte in generation.event({"content": "drip"}):
        generation.write(http_chunk(bytes([byte])))
        await asyncio.sleep(1)


async def fault_garbage(generation: Generation) -> None:
    """Not HTTP."""
    generation.write(bytes(range(256)) * 8 + b"\r\n\r\n")
    generation.abort(soft=True)


async def fault_garbage_stream(generation: Generation) -> None:
    """Events that are not JSON."""
    junk = f"data: <html>{ENGINE_SECRET}</html>\n\n\x00\x01data: ]]]]\n\n".encode() + b"data: \xff\xfe\n\n"
    generation.write(STREAM_HEAD + http_chunk(junk) + STREAM_END)


async def fault_half_json(generation: Generation) -> None:
    """An event that stops in the middle; the HTTP body ends properly."""
    event = generation.event({"content": "half of it"})
    generation.write(STREAM_HEAD + http_chunk(event) + http_chunk(event[: len(event) // 2]) + STREAM_END)


async def fault_bad_shape(generation: Generation) -> None:
    """JSON of the wrong shape."""
    events = b'data: {"choices": "none", "usage": [1, 2]}\n\ndata: [[]]\n\ndata: 7\n\ndata: [DONE]\n\n'
    generation.write(STREAM_HEAD + http_chunk(events) + STREAM_END)


async def fault_huge_line(generation: Generation) -> None:
    """An event without an end, at 16 MB a second."""
    generation.write(STREAM_HEAD + http_chunk(b'data: {"choices": [{"delta": {"content": "'))
    for _ in range(HUGE >> 18):
        generation.write(http_chunk(b"a" * (1 << 18)))
        await asyncio.sleep(1 / 64)


def error_body(status: int, message: str, kind: str, param: str | None = None) -> bytes:
    """vLLM's error object."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": status}})


async def fault_error_500(generation: Generation) -> None:
    """An internal error, with a text that is nobody's business."""
    generation.write(http(500, error_body(500, f"CUDA out of memory {ENGINE_SECRET}", "InternalServerError")))


async def fault_error_503(generation: Generation) -> None:
    """A proxy before the engine says that it is not there."""
    generation.write(http(503, f"<html>{ENGINE_SECRET}</html>".encode(), "text/html"))


async def fault_error_stream(generation: Generation) -> None:
    """vLLM's error event in the middle of the stream."""
    deltas, _ = generation.deltas()
    body = error_body(500, f"EngineCore died {ENGINE_SECRET}", "InternalServerError")
    events = generation.event(deltas[0]) + b"data: " + body + b"\n\ndata: [DONE]\n\n"
    generation.write(STREAM_HEAD + http_chunk(events) + STREAM_END)


async def fault_refused_stream(generation: Generation) -> None:
    """A schema that can't be compiled."""
    body = error_body(400, f"Grammar error: Invalid type: {ENGINE_SECRET}", "BadRequestError")
    generation.write(STREAM_HEAD + http_chunk(b"data: " + body + b"\n\ndata: [DONE]\n\n") + STREAM_END)


async def fault_wrong_model(generation: Generation) -> None:
    """The model is another one since the miner looked."""
    text = f"The model `{generation.request.model}` does not exist. {ENGINE_SECRET}"
    generation.write(http(404, error_body(404, text, "NotFoundError")))


async def fault_over_context(generation: Generation) -> None:
    """The prompt does not fit."""
    text = (
        "This model's maximum context length is 16 tokens. However, your prompt contains at least 17 input tokens, "
        "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
        "(parameter=input_tokens, value=17)"
    )
    generation.write(http(400, error_body(400, text, "BadRequestError", "input_tokens")))


async def fault_redirect(generation: Generation) -> None:
    """Somewhere else, please."""
    generation.write(http(307, b"", "text/plain", "location: /redirected/v1/chat/completions\r\n"))


async def fault_die(generation: Generation) -> None:
    """The connection goes away in the middle of the stream."""
    await generation.stream(max(1, generation.behaviour.chunks // 2))
    await asyncio.sleep(0.02)
    generation.abort()


async def fault_empty(generation: Generation) -> None:
    """A proper answer without text."""
    generation.write(STREAM_HEAD + http_chunk(generation.last_events("stop")) + STREAM_END)


async def fault_surrogate(generation: Generation) -> None:
    """A lone surrogate in the text."""
    event = generation.event({"content": "before@after"}).replace(b"@", b"\\ud800")
    generation.tokens = 3
    generation.write(STREAM_HEAD + http_chunk(event) + http_chunk(generation.last_events("stop")) + STREAM_END)


FAULTS: Final[dict[str, Callable[[Generation], Awaitable[None]]]] = {
    "refuse": fault_reset,
    "reset": fault_reset,
    "stall": fault_stall,
    "stall_mid": fault_stall_mid,
    "drip": fault_drip,
    "garbage": fault_garbage,
    "garbage_stream": fault_garbage_stream,
    "half_json": fault_half_json,
    "bad_shape": fault_bad_shape,
    "huge_line": fault_huge_line,
    "error_500": fault_error_500,
    "error_503": fault_error_503,
    "error_stream": fault_error_stream,
    "refused_stream": fault_refused_stream,
    "wrong_model": fault_wrong_model,
    "over_context": fault_over_context,
    "redirect": fault_redirect,
    "die": fault_die,
    "empty": fault_empty,
    "surrogate": fault_surrogate,
}


class HttpProtocol(asyncio.Protocol):
    """Just enough HTTP/1.1: requests one after another, bodies by length or in chunks."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.authorization = ""
        self.transport: asyncio.Transport | None = None
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is there."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def write(self, data: bytes) -> None:
        """Send, if the caller is still there."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def abort(self, *, soft: bool = False) -> None:
        """Close the connection: at once with a reset, or softly after what was written."""
        if self.transport is None:
            return
        if soft:
            self.transport.close()
            return
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes came; handle a request when it is whole."""
        self.buffer += data
        self.next_request()

    def next_request(self) -> None:
        """Handle what is whole and not yet answered."""
        while not self.busy:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            lines = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
            method, path = lines[0].split(" ")[:2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            found = self.body_at(end + 4, headers)
            if found is None:
                return
            body, stop = found
            del self.buffer[:stop]
            self.authorization = headers.get("authorization", "")
            self.handle(method, path, body)

    def body_at(self, start: int, headers: dict[str, str]) -> tuple[bytes, int] | None:
        """The body and where it ends, or None while it is not all there."""
        if headers.get("transfer-encoding", "").lower() != "chunked":
            stop = start + int(headers.get("content-length", "0"))
            return (bytes(self.buffer[start:stop]), stop) if len(self.buffer) >= stop else None
        parts: list[bytes] = []
        while (line := self.buffer.find(b"\r\n", start)) >= 0:
            size = int(self.buffer[start:line], 16)
            start = line + 2 + size + 2
            if len(self.buffer) < start:
                return None
            if not size:
                return b"".join(parts), start
            parts.append(bytes(self.buffer[line + 2 : line + 2 + size]))
        return None

    def handle(self, method: str, path: str, body: bytes) -> None:
        """Answer one request."""
        raise NotImplementedError


class EngineConnection(HttpProtocol):
    """A connection of the engine's port."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.generation: Generation | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is there."""
        super().connection_made(transport)
        self.engine.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller hung up: stop writing, as vLLM does, and keep the time."""
        del exc
        self.engine.connections.discard(self)
        if self.task is not None:
            self.task.cancel()

    def handle(self, method: str, path: str, body: bytes) -> None:
        """Route one request."""
        engine = self.engine
        path = path.partition("?")[0]
        if path == "/health":
            self.write(http(engine.behaviour.health_status, b""))
        elif path == "/readiness" and engine.behaviour.healthy_workers is not None:
            self.write(readiness(engine.behaviour.healthy_workers))
        elif engine.api_key and path.startswith("/v1") and self.authorization != f"Bearer {engine.api_key}":
            self.write(http(401, b'{"error":"Unauthorized"}'))
        elif path == "/v1/models":
            card: dict[str, Any] = {
                "id": engine.model,
                "object": "model",
                "created": int(time.time()),
                "owned_by": "vllm",
                "root": engine.model,
                "parent": None,
                "max_model_len": engine.max_model_len,
                "permission": list[Any](),
            }
            if engine.llama_cpp:
                del card["max_model_len"]
                card["meta"] = {"n_ctx": engine.max_model_len, "n_ctx_train": 2 * engine.max_model_len}
            self.write(http(200, msgspec.json.encode({"object": "list", "data": [card]})))
        elif path == "/props" and engine.llama_cpp:
            caps = {"supports_tools": engine.knows_tools, "supports_tool_calls": engine.knows_tools}
            self.write(http(200, msgspec.json.encode({"total_slots": 1, "chat_template_caps": caps})))
        elif path == "/version":
            self.write(http(200, b'{"version": "0.32.0"}'))
        elif path == "/v1/chat/completions" and method == "POST":
            self.complete(body)
        elif path.startswith("/redirected"):
            engine.stats.followed_redirects += 1
            self.write(http(200, b'{"choices": []}'))
        else:
            self.write(http(404, b'{"detail":"Not Found"}'))

    def complete(self, body: bytes) -> None:
        """`POST /v1/chat/completions`."""
        try:
            request, prompt = self.engine.check(body)
        except Refused as refused:
            self.engine.stats.refused += 1
            body = error_body(refused.status, str(refused), refused.kind, refused.param)
            self.write(http(refused.status, body))
            return
        generation = Generation(self.engine, self, request, prompt)
        generation.began()
        if generation.at_once:
            generation.write_at_once()
            generation.over("done")
            return
        self.busy = True
        self.task = asyncio.get_running_loop().create_task(self.run(generation))

    async def run(self, generation: Generation) -> None:
        """A generation that takes its time."""
        how: Literal["done", "disconnected", "fault"] = "disconnected"
        try:
            await generation.run()
            how = "done" if generation.behaviour.fault == "none" else "fault"
        finally:
            self.task = None
            self.busy = False
            generation.over(how)
        self.next_request()


class Control(HttpProtocol):
    """A connection of the control port."""

    def __init__(self, engine: Engine, listener: "Listener") -> None:
        super().__init__()
        self.engine = engine
        self.listener = listener

    def handle(self, method: str, path: str, body: bytes) -> None:
        """`GET /stub`; `POST /stub` with a behaviour, and maybe `next` (a list of them, one a request) and `reset`."""
        if path != "/stub":
            self.write(http(404, b"{}"))
            return
        if method == "POST":
            order: dict[str, Any] = msgspec.json.decode(body or b"{}")
            if order.pop("reset", False):
                self.engine.reset()
            self.engine.following = deque(msgspec.convert(order.pop("next", []), list[Behaviour]))
            self.engine.behaviour = msgspec.convert(order, Behaviour)
            self.listener.open(wanted=self.engine.behaviour.fault != "refuse")
        self.write(http(200, self.engine.snapshot()))


class Listener:
    """The engine's port, which can be closed and opened again."""

    def __init__(self, engine: Engine, host: str, port: int) -> None:
        self.engine = engine
        self.host = host
        self.port = port
        self.socket: socket.socket | None = None
        self.server: asyncio.Server | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Open the port."""
        sock = socket.create_server((self.host, self.port), backlog=4096)
        self.port = sock.getsockname()[1]
        self.socket = sock
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: EngineConnection(self.engine), sock=sock, backlog=4096)

    def open(self, *, wanted: bool) -> None:
        """Open or close the port; closing it also resets who is connected."""
        if wanted and self.server is None:
            task = asyncio.get_running_loop().create_task(self.listen())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif not wanted and self.server is not None:
            self.server.close()
            self.server = None
            for connection in list(self.engine.connections):
                connection.abort()


async def until_input_closes() -> None:
    """Wait until whoever started this process is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def serve(arguments: argparse.Namespace) -> None:
    """Open both ports, say so, and serve until the input closes."""
    engine = Engine(
        arguments.model, arguments.max_model_len, arguments.bytes_per_token, refuse_sum=arguments.refuse_sum
    )
    engine.api_key = arguments.api_key
    engine.llama_cpp, engine.knows_tools = arguments.llama_cpp, not arguments.no_tools
    listener = Listener(engine, arguments.host, arguments.port)
    await listener.listen()
    loop = asyncio.get_running_loop()
    control = await loop.create_server(lambda: Control(engine, listener), arguments.host, arguments.control_port)
    ports = {"port": listener.port, "control_port": control.sockets[0].getsockname()[1]}
    sys.stdout.write(msgspec.json.encode(ports).decode() + "\n")
    sys.stdout.flush()
    if arguments.forever:
        await asyncio.Event().wait()
    await until_input_closes()


def main() -> None:
    """Read the flags and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--model", default="stub/model")
    parser.add_argument("--max-model-len", type=int, default=262_144)
    parser.add_argument("--bytes-per-token", type=int, default=TOKEN_BYTES, help="how dense prompts are")
    parser.add_argument("--refuse-sum", action="store_true", help="refuse prompt and max_tokens over the context")
    parser.add_argument("--api-key", default="", help="what callers of /v1 must send, as with vLLM's own option")
    parser.add_argument("--llama-cpp", action="store_true", help="tell the model as llama.cpp's own server does")
    parser.add_argument("--no-tools", action="store_true", help="llama.cpp with a chat template that knows no tools")
    parser.add_argument("--forever", action="store_true", help="do not watch standard input")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
