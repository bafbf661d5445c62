"""A stand-in for Ollama's server: `python -m tests.stubs.ollama`, a process of its own.

Written from Ollama's documented API and its server's source: `/api/{version,tags,show,ps,generate,pull}` and the OpenAI
route, with what makes Ollama different from vLLM: a model is loaded when first asked for and unloaded after its
`keep_alive`; loading is given up when the caller hangs up; the context is 4096 unless told otherwise; a prompt that
does not fit is cut without a word, and only `prompt_tokens` tells; without `max_tokens` an answer has no limit;
`tool_choice` is not read; a tool call comes whole in one chunk; thinking comes as `reasoning`.

The control port is that of `tests.stubs.engine`: `GET /stub` and `POST /stub`. One token is four bytes.
"""

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
import uvloop

from tests.stubs.engine import STREAM_END, STREAM_HEAD, HttpProtocol, http, http_chunk, until_input_closes

TOKEN_BYTES: Final = 4
MINUTE: Final = 60.0
DIGEST: Final = "a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a"


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the next requests are answered."""

    text: str | None = None
    """Instead of the last message as the model saw it."""
    reasoning: str = ""
    tool_call: bool = False
    token_ms: float = 0
    endless: bool = False
    """A token each `token_ms`, up to max_tokens; without that until the caller hangs up."""
    pull_error: str = ""
    """What `/api/pull` says instead of pulling."""
    pull_cut: bool = False
    """`/api/pull` breaks off in the middle."""
    refuse_too_long: bool = False
    """As for models that llama.cpp's own templates serve: 400 instead of a cut prompt."""


class Stats(msgspec.Struct, kw_only=True):
    """What the server saw since it started."""

    requests: list[dict[str, Any]] = []
    """Parameters of chat completions, without messages; the last 100."""
    loads: int = 0
    loads_given_up: int = 0
    running: int = 0
    tokens: int = 0


class Chat(msgspec.Struct):
    """The fields of `/v1/chat/completions` that Ollama reads; it ignores all others."""

    model: str = ""
    messages: list[dict[str, Any]] = []
    stream: bool = False
    stream_options: dict[str, bool] | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] = []


class Order(msgspec.Struct):
    """The body of `/api/show` and `/api/generate`, as far as it is looked at."""

    model: str = ""
    prompt: str = ""
    keep_alive: str | float | None = None


def seconds_of(keep_alive: str | float | None) -> float | None:
    """A duration as Ollama takes it: a number of seconds or a Go duration; negative is for ever."""
    if keep_alive is None:
        return None
    if isinstance(keep_alive, str):
        units = {"s": 1.0, "m": MINUTE, "h": 60 * MINUTE}
        value = float(keep_alive[:-1]) * units[keep_alive[-1]]
    else:
        value = keep_alive
    return float("inf") if value < 0 else value


def full_name(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


class Ollama:
    """The server: its models, the loaded ones, and what it saw."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.models: list[str] = [] if arguments.empty else [full_name(name) for name in arguments.model]
        self.own_context: int = arguments.model_context
        self.context: int = min(arguments.num_ctx or arguments.context, self.own_context)
        self.num_ctx: int = arguments.num_ctx
        self.load_seconds: float = arguments.load_ms / 1000
        self.keep_alive = seconds_of(arguments.keep_alive) or 0.0
        self.old: bool = arguments.old
        self.behaviour = Behaviour()
        self.stats = Stats()
        self.seen: deque[dict[str, Any]] = deque(maxlen=100)
        self.loaded: dict[str, tuple[float, float]] = {}
        """Of each loaded model: its `keep_alive` and when it is unloaded."""

    def has(self, name: str) -> bool:
        return full_name(name) in self.models

    def sweep(self) -> None:
        now = time.monotonic()
        self.loaded = {name: entry for name, entry in self.loaded.items() if entry[1] > now}

    async def load(self, name: str, keep_alive: float | None) -> None:
        """Have the model in memory; given up by a cancellation, as Ollama does when the caller hangs up."""
        self.sweep()
        name = full_name(name)
        if name not in self.loaded:
            self.stats.loads += 1
            try:
                await asyncio.sleep(self.load_seconds)
            except asyncio.CancelledError:
                self.stats.loads_given_up += 1
                raise
        kept = self.loaded.get(name, (self.keep_alive, 0.0))[0] if keep_alive is None else keep_alive
        self.loaded[name] = (kept, time.monotonic() + kept)

    def snapshot(self) -> bytes:
        """`GET /stub`."""
        self.stats.requests = list(self.seen)
        return msgspec.json.encode(self.stats)

    def entry(self, name: str) -> dict[str, Any]:
        """What all lists of models say."""
        details = {
            "parent_model": "",
            "format": "gguf",
            "family": "qwen2",
            "families": ["qwen2"],
            "parameter_size": "7.6B",
            "quantization_level": "Q4_K_M",
        }
        return {"name": name, "model": name, "size": 4683087332, "digest": DIGEST, "details": details}

    def tags(self) -> dict[str, Any]:
        """`GET /api/tags`."""
        return {"models": [self.entry(name) | {"modified_at": "2026-10-03T23:34:03.4-07:00"} for name in self.models]}

    def ps(self) -> dict[str, Any]:
        """`GET /api/ps`."""
        self.sweep()
        extra: dict[str, object] = {"expires_at": "2318-10-17T16:47:07.93355-07:00", "size_vram": 5333539264}
        if not self.old:
            extra["context_length"] = self.context
        return {"models": [self.entry(name) | extra for name in self.loaded]}

    def show(self) -> dict[str, Any]:
        """`POST /api/show`."""
        parameters = 'stop                           "<|im_end|>"'
        if self.num_ctx:
            parameters += f"\nnum_ctx                        {self.num_ctx}"
        return {
            "modelfile": "",
            "parameters": parameters,
            "template": "{{ .Prompt }}",
            "details": self.entry("")["details"],
            "model_info": {"general.architecture": "qwen2", "qwen2.context_length": self.own_context},
            "capabilities": ["completion", "tools"],
        }

    def cut(self, messages: list[dict[str, Any]]) -> tuple[str, int]:
        """What the model sees of the last message, and of how many tokens its prompt is: never more than fit."""
        sizes = [len(str(message.get("content"))) // TOKEN_BYTES + 1 for message in messages]
        last = str(messages[-1].get("content"))
        while len(sizes) > 1 and sum(sizes) > self.context:
            sizes.pop(0)
        if sum(sizes) <= self.context:
            return last, sum(sizes)
        half = self.context // 2  # the runner keeps the end of it
        return last[-half * TOKEN_BYTES :], half


class Answer:
    """One chat completion for one connection."""

    def __init__(self, ollama: Ollama, write: Callable[[bytes], None], chat: Chat) -> None:
        self.ollama = ollama
        self.behaviour = ollama.behaviour
        self.write = write
        self.chat = chat
        self.seen, self.prompt = ollama.cut(chat.messages)
        self.tokens = 0

    def chunk(self, delta: dict[str, Any] | None, finish: str | None = None, **more: object) -> bytes:
        """One event."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""} | (delta or {}), "finish_reason": finish}
        body = {
            "id": "chatcmpl-417",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.chat.model,
            "system_fingerprint": "fp_ollama",
            "choices": [] if delta is None else [choice],
        } | more
        return http_chunk(b"data: " + msgspec.json.encode(body) + b"\n\n")

    def pieces(self) -> tuple[list[dict[str, Any]], str]:
        """The deltas, one a token, and the finish reason."""
        behaviour = self.behaviour
        if behaviour.tool_call and self.chat.tools:
            function = {"name": self.chat.tools[0]["function"]["name"], "arguments": '{"city":"Oslo"}'}
            call = {"id": "call_h2k9x0ab", "index": 0, "type": "function", "function": function}
            return [{"tool_calls": [call]}], "tool_calls"
        text = self.seen if behaviour.text is None else behaviour.text
        for stop in [self.chat.stop] if isinstance(self.chat.stop, str) else self.chat.stop or []:
            text = text.partition(stop)[0]
        pieces = [
            {name: part[at : at + TOKEN_BYTES]}
            for name, part in (("reasoning", behaviour.reasoning), ("content", text))
            for at in range(0, len(part), TOKEN_BYTES)
        ]
        limit = self.chat.max_tokens
        if limit is not None and 0 <= limit < len(pieces):
            return pieces[:limit], "length"
        return pieces, "stop"

    async def run(self) -> None:
        """Stream the answer."""
        self.write(STREAM_HEAD)
        pieces, finish = self.pieces()
        if self.behaviour.endless:
            finish = "length"
            while self.chat.max_tokens is None or self.tokens < self.chat.max_tokens:
                await self.say({"content": "on. "})
        else:
            for piece in pieces:
                await self.say(piece)
        self.write(self.chunk({}, finish))
        if (self.chat.stream_options or {}).get("include_usage"):
            usage = {"prompt_tokens": self.prompt, "completion_tokens": self.tokens}
            self.write(self.chunk(None, usage=usage | {"total_tokens": self.prompt + self.tokens}))
        self.write(http_chunk(b"data: [DONE]\n\n"))
        await asyncio.sleep(0.005)
        self.write(STREAM_END)

    async def say(self, piece: dict[str, Any]) -> None:
        self.tokens += 1
        self.ollama.stats.tokens += 1
        self.write(self.chunk(piece))
        if self.behaviour.token_ms or not self.tokens % 500:
            await asyncio.sleep(self.behaviour.token_ms / 1000)


class Connection(HttpProtocol):
    """A connection of Ollama's port."""

    def __init__(self, ollama: Ollama) -> None:
        super().__init__()
        self.ollama = ollama
        self.task: asyncio.Task[None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller hung up: give up what was done for it."""
        del exc
        if self.task is not None:
            self.task.cancel()

    def json(self, body: object, status: int = 200) -> None:
        self.write(http(status, msgspec.json.encode(body), "application/json; charset=utf-8"))

    def handle(self, method: str, path: str, body: bytes) -> None:
        """Route one request."""
        ollama = self.ollama
        match method, path:
            case "GET", "/":
                self.write(http(200, b"Ollama is running", "text/plain"))
            case "GET", "/api/version":
                self.json({"version": "0.5.1" if ollama.old else "0.30.10"})
            case "GET", "/api/tags":
                self.json(ollama.tags())
            case "GET", "/api/ps":
                self.json(ollama.ps())
            case "POST", "/api/show":
                order = msgspec.json.decode(body, type=Order)
                known = ollama.has(order.model)
                self.json(
                    ollama.show() if known else {"error": f"model '{order.model}' not found"}, 200 if known else 404
                )
            case "POST", "/api/generate":
                self.begin(self.generate(msgspec.json.decode(body, type=Order)))
            case "POST", "/api/pull":
                self.begin(self.pull(msgspec.json.decode(body, type=Order)))
            case "POST", "/v1/chat/completions":
                self.begin(self.chat(body))
            case _:
                self.write(http(404, b"404 page not found", "text/plain"))

    def begin(self, work: Any) -> None:  # noqa: ANN401 - a coroutine of either route
        """Do what takes time."""
        self.busy = True
        self.task = asyncio.get_running_loop().create_task(self.run(work))

    async def run(self, work: Any) -> None:  # noqa: ANN401 - see above
        """One request at a time on a connection."""
        self.ollama.stats.running += 1
        try:
            await work
        finally:
            self.ollama.stats.running -= 1
            self.task, self.busy = None, False
        self.next_request()

    async def generate(self, order: Order) -> None:
        """`/api/generate` without a prompt: load, or with `keep_alive` 0 unload."""
        ollama = self.ollama
        if not ollama.has(order.model):
            self.json({"error": f"model '{order.model}' not found"}, 404)
            return
        keep_alive = seconds_of(order.keep_alive)
        if keep_alive == 0 and not order.prompt:
            ollama.loaded.pop(full_name(order.model), None)
            reason = "unload"
        else:
            await ollama.load(order.model, keep_alive)
            reason = "load"
        self.json({"model": order.model, "response": "", "done": True, "done_reason": reason})

    async def pull(self, order: Order) -> None:
        """`/api/pull`: lines of JSON, each what is done; an error comes as a line too, with status 200."""
        behaviour = self.ollama.behaviour

        def line(**fields: object) -> None:
            self.write(http_chunk(msgspec.json.encode(fields) + b"\n"))

        self.write(STREAM_HEAD.replace(b"text/event-stream", b"application/x-ndjson"))
        line(status="pulling manifest")
        if behaviour.pull_error:
            line(error=behaviour.pull_error)
            self.write(STREAM_END)
            return
        total = 4683087332
        for done in (0, total // 2, total):
            line(status=f"pulling {DIGEST[:12]}", digest=f"sha256:{DIGEST}", total=total, completed=done)
            await asyncio.sleep(0.01)
            if behaviour.pull_cut and done:
                self.abort()
                return
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            line(status=status)
        self.ollama.models.append(full_name(order.model))
        self.write(STREAM_END)

    async def chat(self, body: bytes) -> None:
        """`/v1/chat/completions`, streamed only: the miner asks for nothing else."""
        ollama = self.ollama
        chat = msgspec.json.decode(body, type=Chat)
        if not chat.messages:
            self.error(400, "[] is too short - 'messages'", "invalid_request_error")
            return
        if not ollama.has(chat.model):
            self.error(404, f"model '{chat.model}' not found", "not_found_error")
            return
        sent: dict[str, Any] = msgspec.json.decode(body)
        ollama.seen.append({name: value for name, value in sent.items() if name != "messages"})
        await ollama.load(chat.model, None)
        answer = Answer(ollama, self.write, chat)
        whole = sum(len(str(message.get("content"))) // TOKEN_BYTES + 1 for message in chat.messages)
        if answer.behaviour.refuse_too_long and whole > ollama.context:
            said = f"request ({whole} tokens) exceeds the available context size ({ollama.context} tokens)"
            self.error(400, said, "invalid_request_error")
            return
        await answer.run()
        await ollama.load(chat.model, None)  # its time begins anew

    def error(self, status: int, message: str, kind: str) -> None:
        self.json({"error": {"message": message, "type": kind, "param": None, "code": None}}, status)


class Control(HttpProtocol):
    """A connection of the control port."""

    def __init__(self, ollama: Ollama) -> None:
        super().__init__()
        self.ollama = ollama

    def handle(self, method: str, path: str, body: bytes) -> None:
        """`GET /stub`; `POST /stub` with a behaviour."""
        del path
        if method == "POST":
            self.ollama.behaviour = msgspec.json.decode(body, type=Behaviour)
        self.write(http(200, self.ollama.snapshot()))


async def serve(arguments: argparse.Namespace) -> None:
    """Open both ports, say so, and serve until the input closes."""
    ollama = Ollama(arguments)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(ollama), arguments.host, arguments.port)
    control = await loop.create_server(lambda: Control(ollama), arguments.host, 0)
    ports = {"port": server.sockets[0].getsockname()[1], "control_port": control.sockets[0].getsockname()[1]}
    sys.stdout.write(msgspec.json.encode(ports).decode() + "\n")
    sys.stdout.flush()
    await until_input_closes()


def main() -> None:
    """Read the flags and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--context", type=int, default=4096, help="OLLAMA_CONTEXT_LENGTH")
    parser.add_argument("--model-context", type=int, default=32768, help="what the model was made for")
    parser.add_argument("--num-ctx", type=int, default=0, help="PARAMETER num_ctx of the model's Modelfile")
    parser.add_argument("--keep-alive", default="5m", help="OLLAMA_KEEP_ALIVE")
    parser.add_argument("--load-ms", type=float, default=50)
    parser.add_argument("--empty", action="store_true", help="no model was pulled yet")
    parser.add_argument("--old", action="store_true", help="a version whose /api/ps knows no context_length")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
