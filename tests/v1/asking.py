"""Asking /v1: OpenAI's clients, and raw requests where a client would not send such a thing."""

import json
from typing import Any, Final

import openai

from tests.miner.canary import API_KEY, PROMPT
from tests.miner.http import LOCAL, Connection, Reply, once
from tests.miner.process import MinerProcess

COMPLETIONS: Final = "/v1/chat/completions"
MESSAGES: Final[list[Any]] = [{"role": "system", "content": f"Be brief. {PROMPT}"}, {"role": "user", "content": "Hi"}]
TOOL: Final[Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
HEADERS: Final = {"content-type": "application/json", "authorization": f"Bearer {API_KEY}"}


def base_url(miner: MinerProcess) -> str:
    """What a client is told."""
    return f"http://{LOCAL}:{miner.admin_port}/v1"


def sync_client(miner: MinerProcess, key: str = API_KEY) -> openai.OpenAI:
    """The client that validates strictly and tries once."""
    return openai.OpenAI(
        base_url=base_url(miner), api_key=key, max_retries=0, timeout=60, _strict_response_validation=True
    )


def async_client(miner: MinerProcess, key: str = API_KEY) -> openai.AsyncOpenAI:
    """The same, on asyncio."""
    return openai.AsyncOpenAI(
        base_url=base_url(miner), api_key=key, max_retries=0, timeout=60, _strict_response_validation=True
    )


def body(**fields: object) -> bytes:
    """A request's body."""
    return json.dumps({"model": "any", "messages": MESSAGES} | fields).encode()


async def post(miner: MinerProcess, data: bytes, headers: dict[str, str] | None = None) -> Reply:
    """Post a completion request on a connection of its own."""
    return await once(
        miner.admin_port, "POST", COMPLETIONS, data, HEADERS if headers is None else headers, keep=miner.keep
    )


async def admin(miner: MinerProcess) -> Connection:
    """A connection to the admin listener."""
    return await Connection.open(miner.admin_port, keep=miner.keep)


def error_of(reply: Reply) -> dict[str, Any]:
    """The error of an envelope; fails unless it has its four keys and no other."""
    envelope: Any = reply.json()
    assert list(envelope) == ["error"], envelope
    error: dict[str, Any] = envelope["error"]
    assert list(error) == ["message", "type", "param", "code"], error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert all(isinstance(error[name], str | None) for name in ("param", "code")), error
    assert reply.headers["content-type"] == "application/json"
    return error


def events(data: bytes) -> list[Any]:
    """The events of a whole stream, in order; the mark of the end as it is."""
    assert data.endswith(b"\n\n"), data[-80:]
    found: list[Any] = []
    for event in data.decode().split("\n\n")[:-1]:
        assert event.startswith("data: "), event
        assert "\n" not in event
        text = event.removeprefix("data: ")
        found.append(text if text == "[DONE]" else json.loads(text))
    return found
