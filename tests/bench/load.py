"""Load on a running miner: validators with sessions, tokens sealed beforehand, every answer looked at."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import msgspec

from tests.miner.http import Connection, Reply, encode
from tests.miner.validator import CHALLENGE, KEY_EXCHANGE, Hotkey, Session, Validator, challenge

KIB = 1024
VALIDATORS = 10
HOTKEYS = 64
"""Who shakes hands: about as many as a subnet has validators."""
MOST_SEALED_BYTES = 48 * 1024 * KIB
"""Tokens made ahead of a round are held in memory; rounds are no larger than this."""


class Target(msgspec.Struct, frozen=True):
    """A running miner."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """As in a Host header."""
        return f"{self.host}:{self.port}"


class Spent(msgspec.Struct, kw_only=True):
    """What a run of many requests took: seconds each, and processor seconds of the miner in all."""

    seconds: list[float]
    wall: float
    cpu: float

    @property
    def count(self) -> int:
        """Requests."""
        return len(self.seconds)

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of the miner's processor time for one request."""
        return self.cpu * 1000 / self.count

    def quantile_ms(self, share: float) -> float:
        """Milliseconds within which that share was answered."""
        ordered = sorted(self.seconds)
        return ordered[min(self.count - 1, int(share * self.count))] * 1000


class Load:
    """Connections to a miner, each used for one request at a time; ten validators share them."""

    def __init__(self, target: Target, cpu: Callable[[], float], connections: list[Validator]) -> None:
        self.target = target
        self.cpu = cpu
        self.connections = connections
        self.hotkeys = [Hotkey() for _ in range(HOTKEYS)]

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target, cpu: Callable[[], float], at_once: int) -> AsyncGenerator["Load"]:
        """Connect `at_once` times and shake hands."""
        opened: list[Validator] = []
        try:
            for at in range(at_once):
                one = Validator(await Connection.open(target.port, host=target.host))
                opened.append(one)
                if at < VALIDATORS:
                    await one.shake()
                else:
                    one.hotkey, one.session = opened[at % VALIDATORS].hotkey, opened[at % VALIDATORS].session
            yield cls(target, cpu, opened)
        finally:
            for one in opened:
                one.close()

    async def challenges(self, size: int, count: int) -> Spent:
        """`count` challenges with prompts of `size` bytes; the last answer of each round is opened and checked."""
        plain = msgspec.json.encode(challenge("a" * size))
        round_size = max(len(self.connections), min(count, MOST_SEALED_BYTES // (size * 4 // 3 + 500)))
        spent = Spent(seconds=[], wall=0, cpu=0)
        before = self.cpu()
        while spent.count < count:
            started = time.perf_counter()
            requests = [self._challenge(at, plain) for at in range(min(round_size, count - spent.count))]
            started = time.perf_counter()
            last = await self._round(requests, spent)
            spent.wall += time.perf_counter() - started
            session = self.connections[last[0]].session
            assert session is not None
            assert session.open(last[1].body)["response_text"]
        spent.cpu = self.cpu() - before
        return spent

    def _challenge(self, at: int, plain: bytes) -> bytes:
        session = self.connections[at % len(self.connections)].session
        assert session is not None
        return encode("POST", CHALLENGE, session.fernet.encrypt(plain), session.headers, host=self.target.name)

    async def _round(self, requests: list[bytes], spent: Spent) -> tuple[int, Reply]:
        """Each connection sends its share of the requests, one after another."""
        width = len(self.connections)
        last: tuple[int, Reply] | None = None

        async def one(at: int) -> None:
            nonlocal last
            connection = self.connections[at].connection
            for data in requests[at::width]:
                began = time.perf_counter()
                connection.send(data)
                reply = await connection.reply()
                spent.seconds.append(time.perf_counter() - began)
                if reply.status != 200:
                    raise RuntimeError(f"the miner answered {reply.status}: {reply.body[:200]!r}")
                last = at, reply

        await asyncio.gather(*(one(at) for at in range(width)))
        assert last is not None
        return last

    async def plain(self, requests: Iterable[bytes]) -> Spent:
        """Ready-made requests, shared among all connections as they become free."""
        waiting: Iterator[bytes] = iter(requests)
        spent = Spent(seconds=[], wall=0, cpu=0)

        async def one(connection: Connection) -> None:
            for data in waiting:
                began = time.perf_counter()
                connection.send(data)
                reply = await connection.reply()
                spent.seconds.append(time.perf_counter() - began)
                if reply.status != 200:
                    raise RuntimeError(f"the miner answered {reply.status}: {reply.body[:200]!r}")

        before, started = self.cpu(), time.perf_counter()
        await asyncio.gather(*(one(each.connection) for each in self.connections))
        spent.wall, spent.cpu = time.perf_counter() - started, self.cpu() - before
        return spent

    async def availability(self, count: int) -> Spent:
        """`GET /availability`."""
        return await self.plain([encode("GET", "/availability", None, None, host=self.target.name)] * count)

    async def handshakes(self, count: int) -> Spent:
        """Whole handshakes, made beforehand."""
        pem = await self.connections[0].public_key()
        bodies = [Session(self.hotkeys[at % HOTKEYS]).handshake(pem) for at in range(count)]
        head = {"Content-Type": "application/json"}
        return await self.plain([encode("POST", KEY_EXCHANGE, body, head, host=self.target.name) for body in bodies])
