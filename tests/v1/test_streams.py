"""A stream's ends and its pace: the client that leaves, the one that reads slowly, and the one that never reads."""

import asyncio
import json
import socket
import time

import pytest

from tests.miner.http import LOCAL, Closed, encode
from tests.miner.process import MinerProcess, StubEngine, fetch
from tests.v1.asking import COMPLETIONS, HEADERS, MESSAGES, admin, async_client, body, events, post


async def stopped(engine: StubEngine, at: int, gone: float) -> float:
    """Seconds until the engine saw the end of its generation number `at`."""
    while len(engine.stats().ended) <= at:
        assert time.time() - gone < 3, "the engine is still at work"
        await asyncio.sleep(0.02)
    last = engine.stats().ended[at]
    assert last.how == "disconnected"
    return last.ended - gone


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("moment", ["before the first token", "while it writes"])
async def test_a_client_that_hangs_up_stops_the_engine(
    v1: MinerProcess, engine: StubEngine, moment: str, *, stream: bool
) -> None:
    """Within 0.5 s; twice that is let pass on a busy machine."""
    engine.behave(endless=True, token_ms=20, first_token_ms=2500 if moment == "before the first token" else 0)
    taken: list[float] = []
    for at in range(5):
        async with await admin(v1) as connection:
            connection.send(encode("POST", COMPLETIONS, body(stream=stream), HEADERS, host=LOCAL))
            reply = asyncio.create_task(connection.reply())
            await asyncio.sleep(0.4)
            assert engine.stats().running == 1
            gone = time.time()
            connection.close()
            with pytest.raises(Closed):
                await reply
        taken.append(await stopped(engine, at, gone))
    print(f"\nhung up {moment}: the engine stopped after {[f'{one:.3f}' for one in taken]} s")  # noqa: T201
    assert sorted(taken)[2] < 0.5
    assert max(taken) < 1
    assert engine.stats().running == 0


async def test_closing_the_clients_stream_stops_the_engine(v1: MinerProcess, engine: StubEngine) -> None:
    engine.behave(endless=True, token_ms=20)
    async with async_client(v1) as client:
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        seen = 0
        async for _ in stream:
            seen += 1
            if seen == 10:
                break
        gone = time.time()
        await stream.close()
        assert await stopped(engine, 0, gone) < 1


async def test_many_that_leave_leave_nothing_behind(v1: MinerProcess, engine: StubEngine) -> None:
    async def hang_up(after: float) -> None:
        async with await admin(v1) as connection:
            connection.send(encode("POST", COMPLETIONS, body(stream=True), HEADERS, host=LOCAL))
            await asyncio.sleep(after)

    engine.behave(endless=True, token_ms=5)
    await hang_up(0.1)
    await asyncio.sleep(0.5)
    before = v1.fds()
    for _ in range(10):
        await asyncio.gather(*(hang_up(0.01 * at) for at in range(12)))
    await asyncio.sleep(1)
    assert engine.stats().running == 0
    engine.behave(text="Still here.")
    reply = await post(v1, body())
    assert reply.json()["choices"][0]["message"]["content"] == "Still here."
    assert v1.fds() <= before + 3


def holding(miner: MinerProcess) -> int:
    """How many requests hold a slot."""
    return int(json.loads(fetch(miner.admin_port, "/health")[2])["admission"]["running"])


async def slow_reader(miner: MinerProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with a small buffer, that has asked for a long stream."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    sock.setblocking(False)  # noqa: FBT003 - takes no keyword
    await asyncio.get_running_loop().sock_connect(sock, (LOCAL, miner.admin_port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=16384)
    writer.write(encode("POST", COMPLETIONS, body(stream=True, max_tokens=2_000_000), HEADERS, host=LOCAL))
    return reader, writer


async def test_a_slow_reader_slows_the_engine_and_costs_no_memory(v1: MinerProcess, engine: StubEngine) -> None:
    """The engine writes 6 MB for each at once; what the kernel's buffers don't take, the miner doesn't read."""
    engine.behave(text_bytes=6_000_000, chunks=3000)
    rss: list[float] = []
    for _ in range(2):  # the first round fills the allocator's pools
        connections = [await slow_reader(v1) for _ in range(6)]
        try:
            await asyncio.sleep(2)
            rss.append(v1.rss() / 1e6)
            assert holding(v1) == 6, "the miner read it all, and keeps it"
            data = await drained(connections[0][0])
            assert data.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), "nothing is lost by the waiting"
        finally:
            for _, writer in connections:
                writer.transport.abort()
        await asyncio.sleep(0.7)
        assert holding(v1) == 0
    print(f"\n6 readers that do not read: {rss[1] - rss[0]:.1f} MB more the second time")  # noqa: T201
    assert rss[1] - rss[0] < 20


async def drained(reader: asyncio.StreamReader) -> bytes:
    """The end of what is read until the last chunk."""
    tail = b""
    while not tail.endswith(b"\r\n0\r\n\r\n"):
        data = await asyncio.wait_for(reader.read(65536), 30)
        assert data, "closed before the end"
        tail = (tail + data)[-200:]
    return tail


@pytest.mark.slow
async def test_who_reads_nothing_at_all_is_cut_off(v1: MinerProcess, engine: StubEngine) -> None:
    """It holds a slot: after 20 s it is somebody else's."""
    engine.behave(text_bytes=6_000_000, chunks=3000)
    reader, writer = await slow_reader(v1)
    began = time.monotonic()
    await asyncio.sleep(1)
    assert holding(v1) == 1
    while holding(v1):
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.2)
    assert time.monotonic() - began > 15
    tail = b""
    while data := await reader.read(1 << 20):
        tail = (tail + data)[-100:]
    writer.close()
    assert not tail.endswith(b"0\r\n\r\n"), "the end is not pretended"


async def test_each_piece_comes_when_it_is_written(v1: MinerProcess, engine: StubEngine) -> None:
    engine.behave(text="one two three four", chunks=6, token_ms=200)
    times: list[float] = []
    async with async_client(v1) as client:
        began = time.monotonic()
        stream = await client.chat.completions.create(model="x", messages=MESSAGES, stream=True)
        times += [time.monotonic() - began async for chunk in stream if chunk.choices[0].delta.content]
    assert times[0] < 0.4
    assert 0.8 < times[-1] - times[0] < 2


async def test_two_requests_on_one_connection(v1: MinerProcess, engine: StubEngine) -> None:
    engine.behave(text="Hi", chunks=1)
    async with await admin(v1) as connection:
        for _ in range(3):
            reply = await connection.request("POST", COMPLETIONS, body(stream=True), HEADERS)
            assert events(reply.body)[-1] == "[DONE]"
