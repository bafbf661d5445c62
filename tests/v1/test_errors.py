"""Every error below /v1 is OpenAI's envelope with its four keys; the rest of the admin listener keeps `detail`."""

import json
from typing import Any

import pytest

from app.errors import (
    BodyTooLarge,
    BodyTooSlow,
    ContentRefused,
    EncodingUnsupported,
    KeyRefused,
    ModelUnknown,
    NotAllowed,
    ParameterRefused,
    RateLimited,
    Refusal,
    Unavailable,
)
from app.transport.openai_errors import envelope
from tests.backends.engines import StubOllama
from tests.conftest import StartMiner
from tests.miner.canary import API_KEY
from tests.miner.http import encode, once, post_whatever_happens
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import challenge
from tests.v1.asking import COMPLETIONS, HEADERS, TOOL, admin, body, error_of, events, post

WITHOUT_KEY = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "data", "status", "code"),
    [
        ("GET", "/v1", HEADERS, None, 404, "unknown_url"),
        ("GET", "/v1/", HEADERS, None, 404, "unknown_url"),
        ("POST", "/v1/completions", HEADERS, b"{}", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/more", HEADERS, b"{}", 404, "unknown_url"),
        ("GET", "/v1/models/nix", HEADERS, None, 404, "model_not_found"),
        ("GET", COMPLETIONS, HEADERS, None, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", HEADERS, None, 405, "method_not_allowed"),
        ("POST", COMPLETIONS, WITHOUT_KEY, body(), 401, "invalid_api_key"),
        ("GET", "/v1/models", {}, None, 401, "invalid_api_key"),
        ("GET", "/v1/models/stub/model", {"authorization": "Bearer x"}, None, 401, "invalid_api_key"),
        ("GET", "/v1/models", {"authorization": API_KEY}, None, 401, "invalid_api_key"),
        ("GET", "/v1/models", {"authorization": f"Bearer {API_KEY}\xe9"}, None, 401, "invalid_api_key"),
        ("POST", COMPLETIONS, HEADERS, b"{", 400, "invalid_value"),
        ("POST", COMPLETIONS, HEADERS, b"", 400, "invalid_value"),
        ("POST", COMPLETIONS, HEADERS, b"\xff", 400, "invalid_value"),
        ("POST", COMPLETIONS, HEADERS, b"[]", 400, "invalid_value"),
        ("POST", COMPLETIONS, HEADERS, b"[" * 100_000, 400, "invalid_value"),
        ("POST", COMPLETIONS, HEADERS, b"{}", 400, "missing_parameter"),
        ("POST", COMPLETIONS, HEADERS | {"content-type": "text/plain"}, body(), 415, "content_type"),
        ("POST", COMPLETIONS, {"authorization": f"Bearer {API_KEY}"}, body(), 415, "content_type"),
        ("POST", COMPLETIONS, HEADERS | {"content-encoding": "gzip"}, body(), 415, "encoding"),
        ("POST", COMPLETIONS, HEADERS | {"host": "evil.example"}, body(), 403, "host"),
        ("GET", "/v1/models", HEADERS | {"host": "evil.example"}, None, 403, "host"),
    ],
)
async def test_the_envelope(
    v1: MinerProcess, engine: StubEngine, method: str, path: str, headers: dict[str, str], data: bytes | None,
    status: int, code: str,
) -> None:  # fmt: skip
    reply = await once(v1.admin_port, method, path, data, headers, keep=v1.keep)
    error = error_of(reply)
    assert (reply.status, error["code"]) == (status, code)
    assert error["type"] == ("permission_error" if status == 403 else "invalid_request_error")
    if status == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
    if status == 405:
        assert reply.headers["allow"]
    assert engine.stats().requests == 0


def test_a_body_over_8_mib(v1: MinerProcess) -> None:
    reply = post_whatever_happens(v1.admin_port, COMPLETIONS, body(stop="a" * 10_000_000), HEADERS)
    assert (reply.status, error_of(reply)["code"]) == (413, "large_body")


async def test_a_body_just_below_8_mib_is_read(v1: MinerProcess, engine: StubEngine) -> None:
    engine.behave(text="ok")
    text = "a" * (8 * 1024 * 1024 - 500)
    reply = await post(v1, body(messages=[{"role": "user", "content": text}]))
    assert reply.status == 400, "the engine's own limit"
    error = error_of(reply)
    assert "262144 tokens" in error["message"]
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")


async def test_a_prompt_that_ollama_would_cut(start_miner: StartMiner) -> None:
    """Whether Ollama refuses it itself or would cut it without a word."""
    with StubOllama("--context", "16384") as ollama:
        miner = start_miner(LLM_BACKEND="ollama", OLLAMA_BASE_URL=ollama.root, DEFAULT_MODEL="qwen2.5:7b")
        for length, refuses in ((5 * 16384, True), (9 * 16384, False)):
            ollama.act(refuse_too_long=refuses)
            reply = await post(miner, body(messages=[{"role": "user", "content": "x" * length}]))
            error = error_of(reply)
            assert (reply.status, error["param"], error["code"]) == (400, "messages", "context_length_exceeded")
            assert "16384 tokens" in error["message"]
        miner.stop()


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=str)
async def test_a_call_that_ollama_cannot_be_made_to_make(start_miner: StartMiner, choice: object) -> None:
    with StubOllama("--context", "16384") as ollama:
        miner = start_miner(LLM_BACKEND="ollama", OLLAMA_BASE_URL=ollama.root, DEFAULT_MODEL="qwen2.5:7b")
        for stream in (False, True):
            reply = await post(miner, body(tools=[TOOL], tool_choice=choice, stream=stream))
            error = error_of(reply)
            assert (reply.status, error["param"], error["code"]) == (400, "tool_choice", "unsupported_parameter")
        assert (await post(miner, body(tools=[TOOL], tool_choice="auto"))).status == 200
        miner.stop()


async def test_a_body_that_never_ends(start_miner: StartMiner) -> None:
    miner = start_miner(BODY_TIMEOUT_SECONDS=1)
    async with await admin(miner) as connection:
        head = encode("POST", COMPLETIONS, None, WITHOUT_KEY | {"content-length": "100"}, host="127.0.0.1")
        connection.send(head + b"{")
        reply = await connection.reply()
    assert (reply.status, error_of(reply)["code"]) == (408, "slow_body")
    assert reply.seconds < 3
    miner.stop()


async def test_not_ready_and_draining(v1: MinerProcess, faulty: StubEngine) -> None:
    token = {"authorization": f"Bearer {v1.admin_token}"}
    assert (await once(v1.admin_port, "POST", "/drain", b"", token)).status == 200
    for data in (body(), body(stream=True)):
        reply = await post(v1, data)
        error = error_of(reply)
        assert (reply.status, error["code"], error["type"]) == (503, "draining", "server_error")
        assert int(reply.headers["retry-after"]) >= 1
    assert (await once(v1.admin_port, "POST", "/resume", b"", token)).status == 200
    faulty.behave(fault="empty")
    reply = await post(v1, body())
    assert (reply.status, reply.json()["choices"][0]["message"]["content"]) == (200, "")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["reset", "garbage", "bad_shape", "error_500", "wrong_model", "redirect"])
async def test_an_engine_that_fails_at_once(v1: MinerProcess, faulty: StubEngine, fault: str, *, stream: bool) -> None:
    faulty.behave(fault=fault, chunks=4, token_ms=5)
    reply = await post(v1, body(stream=stream))
    error = error_of(reply)
    assert (reply.status, error["code"], error["type"]) == (503, "backend", "server_error")
    assert reply.headers["retry-after"]


async def test_a_schema_that_the_engine_refuses_after_its_200(v1: MinerProcess, faulty: StubEngine) -> None:
    """The request is at fault, not the engine: however often it comes, the miner stays ready."""
    faulty.behave(next=[{"fault": "refused_stream"}] * 6)
    for stream in (False, True) * 3:
        reply = await post(v1, body(stream=stream))
        assert (reply.status, error_of(reply)["code"]) == (400, "refused_by_engine")
    assert (await post(v1, body())).status == 200
    async with await v1.validator() as validator:
        await validator.shake()
        faulty.behave(next=[{"fault": "refused_stream"}] * 4)
        assert [(await validator.send(challenge("?"))).status for _ in range(4)] == [422] * 4
        assert (await validator.ask("?"))["response_text"]


@pytest.mark.parametrize("fault", ["die", "error_stream", "half_json"])
async def test_an_engine_that_fails_in_the_middle(v1: MinerProcess, faulty: StubEngine, fault: str) -> None:
    """The last event is the error, whole; there is no mark of the end."""
    faulty.behave(fault=fault, chunks=6, token_ms=30)
    reply = await post(v1, body(stream=True))
    assert reply.status in {200, 503}
    if reply.status == 503:  # nothing was sent yet
        error_of(reply)
        return
    *chunks, last = events(reply.body)
    assert chunks[1]["choices"][0]["delta"]["content"]
    assert list(last) == ["error"]
    assert list(last["error"]) == ["message", "type", "param", "code"]
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "backend")


async def test_die_in_the_middle_is_seen_as_a_stream(v1: MinerProcess, faulty: StubEngine) -> None:
    """So that the test above is known to see more than refusals."""
    faulty.behave(fault="die", chunks=6, token_ms=30)
    assert (await post(v1, body(stream=True))).status == 200


async def test_the_rest_of_the_admin_listener_keeps_its_own_shape(v1: MinerProcess) -> None:
    for method, path in (("GET", "/nix"), ("GET", "/v1x"), ("GET", "/drain"), ("POST", "/drain")):
        reply = await once(v1.admin_port, method, path, b"" if method == "POST" else None)
        assert list(reply.json()) == ["detail"]


async def test_v1_is_not_on_the_public_listener(v1: MinerProcess) -> None:
    for method, path, data in (("GET", "/v1/models", None), ("POST", COMPLETIONS, body())):
        reply = await once(v1.port, method, path, data, HEADERS)
        assert reply.status == 404
        assert reply.detail == "no such path"


async def test_without_a_key_any_key_will_do(start_miner: StartMiner, engine: StubEngine) -> None:
    miner = start_miner()
    for headers in (WITHOUT_KEY, HEADERS, WITHOUT_KEY | {"authorization": "Basic x"}):
        assert (await post(miner, body(), headers)).status == 200
    miner.stop()


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (ParameterRefused("x", param="stop", code="c"), "invalid_request_error", "c"),
        (KeyRefused("x"), "invalid_request_error", "invalid_api_key"),
        (NotAllowed("x"), "permission_error", "not_allowed"),
        (ModelUnknown("x"), "invalid_request_error", "model_not_found"),
        (BodyTooSlow("x"), "invalid_request_error", "slow_body"),
        (BodyTooLarge("x"), "invalid_request_error", "large_body"),
        (EncodingUnsupported("x"), "invalid_request_error", "encoding"),
        (ContentRefused("x"), "invalid_request_error", "content"),
        (RateLimited("x", retry_after=3), "rate_limit_error", "rate"),
        (Unavailable("x", reason="queue_full"), "server_error", "queue_full"),
    ],
)
def test_every_refusal_has_its_type_and_code(refusal: Refusal, kind: str, code: str) -> None:
    error = envelope(refusal.status, refusal.detail, refusal).error
    assert (error.message, error.type, error.code) == ("x", kind, code)
    assert error.param == {400: "stop", 404: "model"}.get(refusal.status)


def test_a_bug_tells_nothing() -> None:
    error = envelope(500, "internal error, request 1", ValueError("secret")).error
    assert (error.type, error.code, error.param) == ("server_error", "internal_error", None)
    assert "secret" not in json.dumps([error.message])


def test_events_helper_finds_half_events() -> None:
    bad: list[Any] = [b'data: {"a": 1}', b'data: {"a": \n\n', b"oops\n\n"]
    for data in bad:
        with pytest.raises((AssertionError, json.JSONDecodeError)):
            events(data)
