"""The validator's side: as real validators do it, also with a miner that misbehaves."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from app.protocol.hotkeys import Hotkey
from app.validator.client import ValidatorClient
from app.validator.errors import AnswerUnreadable, MinerRefused, MinerSilent, MinerUnreachable, NotAnswered
from app.validator.runs import percentile, run_many
from tests.miner.process import MinerProcess, StubEngine

PAYLOAD = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}


def client(miner: MinerProcess) -> ValidatorClient:
    return ValidatorClient(f"http://127.0.0.1:{miner.port}", Hotkey.ephemeral(), timeout=20)


def forget(validator: ValidatorClient) -> None:
    """Hold a session that the miner does not know, as after its restart."""
    assert validator.session is not None
    validator.session = dataclasses.replace(validator.session, uuid=str(uuid.uuid4()))


async def test_one_handshake_serves_many_challenges(miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(echo=True)
    async with client(miner) as validator:
        assert (await validator.availability()).available
        first, second = await validator.challenge(PAYLOAD), await validator.challenge(PAYLOAD)
    assert (first.handshakes, second.handshakes) == (1, 0)
    assert first.answer.response_text == second.answer.response_text == "hello"


async def test_a_session_the_miner_forgot_is_mended_inline(miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(echo=True)
    async with client(miner) as validator:
        await validator.shake_hands()
        forget(validator)
        received = await validator.challenge(PAYLOAD)
    assert (received.handshakes, received.answer.response_text) == (1, "hello")


async def test_of_many_that_find_the_session_gone_one_shakes_hands(miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(echo=True)
    async with client(miner) as validator:
        await validator.shake_hands()
        forget(validator)
        received = await asyncio.gather(*(validator.challenge(PAYLOAD) for _ in range(8)))
    assert sum(one.handshakes for one in received) == 1
    assert {one.answer.response_text for one in received} == {"hello"}


async def test_a_run_asks_exactly_so_often(miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave()
    async with client(miner) as validator:
        summary = await run_many(validator, PAYLOAD, repeat=7, concurrency=3)
    assert (summary.asked, summary.ok, engine.stats().requests) == (7, 7, 7)


def test_percentiles_are_values_that_occurred() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, p) for p in (50, 95, 99)] == [50.0, 95.0, 99.0]
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 50) is None


@asynccontextmanager
async def serving(reply: bytes | None) -> AsyncGenerator[ValidatorClient]:
    """A thing that listens and is no miner: one reply to whatever is asked, or silence."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if reply is None:
            await reader.read()
        else:
            writer.write(reply)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with ValidatorClient(f"http://127.0.0.1:{port}", Hotkey.ephemeral(), timeout=0.3) as validator:
            yield validator
    finally:
        server.close()
        await server.wait_closed()


def reply(status: str, body: bytes, *headers: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status}".encode(), b"connection: close", f"content-length: {len(body)}".encode(), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("sent", "error", "says"),
    [
        (reply("200 OK", b"<html>"), AnswerUnreadable, "not what validators expect"),
        (reply("200 OK", b'{"available": "yes"}'), AnswerUnreadable, "not what validators expect"),
        (reply("200 OK", b"\xff"), AnswerUnreadable, "not what validators expect"),
        (reply("200 OK", b"[" * 100_000), AnswerUnreadable, "not what validators expect"),
        (reply("302 Found", b"", b"location: http://127.0.0.1:1/"), MinerRefused, "refused with 302"),
        (reply("500 Oops", b"a\x1b[0mb"), MinerRefused, "refused with 500: a\\x1b[0mb"),
        (reply("429 Slow", b'{"detail": "over the limit"}', b"retry-after: 7"), MinerRefused, "429: over the limit"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", MinerUnreachable, "is a miner there?"),
        (b"", MinerUnreachable, "is a miner there?"),
    ],
)
async def test_what_is_no_miner_is_named(sent: bytes, error: type[NotAnswered], says: str) -> None:
    async with serving(sent) as validator:
        with pytest.raises(error) as caught:
            await validator.availability()
    assert says in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_silence_has_an_end() -> None:
    async with serving(None) as validator:
        with pytest.raises(MinerSilent, match=r"within 0\.3 s"):
            await validator.shake_hands()


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"public_key": ""}', b'{"public_key": "canary"}', b'{"public_key": 1}', b'{"public_key": "-----BEGIN"}'],
)
async def test_a_public_key_that_is_none(body: bytes) -> None:
    async with serving(reply("200 OK", body)) as validator:
        with pytest.raises(AnswerUnreadable):
            await validator.shake_hands()


async def test_retry_after_is_kept() -> None:
    async with serving(reply("429 Slow", b"{}", b"retry-after: 7")) as validator:
        with pytest.raises(MinerRefused) as caught:
            await validator.availability()
    assert caught.value.retry_after == 7.0
