"""The soak's load: validators that ask without end, and an account of what became of every challenge."""

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter
from typing import Any, Final

import msgspec
from cryptography.fernet import InvalidToken

from tests.miner.http import Closed, Connection, Reply
from tests.miner.process import MinerProcess
from tests.miner.validator import KEY_EXCHANGE, OK, UNAUTHORIZED, Hotkey, Session, Validator, challenge

GIVE_UP_SECONDS: Final = 90.0
IDLE_SECONDS: Final = 5.0
"""As validators' HTTP client: an older connection is not used again (the miner closes it after 10 s)."""
SERVER_ERROR: Final = 500
UNAVAILABLE: Final = 503
KIB: Final = 1024
SIZES: Final = (1, 1, 1, 4, 4, 16, 64)
TOOL: Final[dict[str, Any]] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"where": {"type": "string"}}}},
}


class Account:
    """What became of the challenges, by the step in which they were sent."""

    def __init__(self) -> None:
        self.answered = 0
        self.slowest = 0.0
        self.refused: Counter[str] = Counter()
        """Refusals as the miner means them: `step status`."""
        self.lost: list[str] = []
        """No whole reply, a bug's 500, or an answer that can't be opened or is empty."""
        self.late: list[str] = []
        self.wrong: list[str] = []
        """Answers to another's question."""
        self.killed = 0
        """In flight when we killed the miner ourselves: nobody can answer those."""


class Scene:
    """What is being done to the miner at present, as far as the load must know."""

    def __init__(self, late_seconds: float) -> None:
        self.step = "start"
        self.echo = False
        """The engine says what it was asked, so that answers can be told from each other's."""
        self.late_seconds = late_seconds
        self.pause = asyncio.Event()
        self.pause.set()
        self.over = False


class Asker:
    """One validator of one miner, asking one challenge after another."""

    def __init__(self, miner: MinerProcess, account: Account, scene: Scene, *, seconds_between: float) -> None:
        self.miner = miner
        self.account = account
        self.scene = scene
        self.between = seconds_between
        self.hotkey = Hotkey()
        self.session: Session | None = None
        self.connection: Connection | None = None
        self.dice = random.Random(self.hotkey.ss58)
        self.used = 0.0
        self.dying = False
        """The miner is being stopped or killed: what is sent from now on may find nobody."""
        self.stopping = False
        """It was just told to stop: it may refuse connections, but answers what it took."""

    async def run(self) -> None:
        """Ask until the scene is over."""
        while not self.scene.over:
            await self.scene.pause.wait()
            try:
                async with asyncio.timeout(GIVE_UP_SECONDS):
                    await self._once()
            except (Closed, OSError, TimeoutError) as error:
                await self._broken(error)
            await asyncio.sleep(self.between * self.dice.uniform(0.5, 1.5))
        self._hang_up()

    async def _broken(self, error: Exception) -> None:
        """Count a challenge that got no reply, unless the miner was not there to be asked."""
        self._hang_up()
        # A miner that was just told to stop takes no new connection: nothing was accepted. What it took, it answers.
        if self.dying or (self.stopping and isinstance(error, ConnectionRefusedError)):
            self.account.killed += 1
            await asyncio.sleep(0.2)
        else:
            self.account.lost.append(f"{self.scene.step}: {error!r}")

    async def _once(self) -> None:
        """One challenge, with a handshake before it where there is no session."""
        if time.monotonic() - self.used > IDLE_SECONDS:
            self._hang_up()
        connection = self.connection
        if connection is None or connection.closed.done():
            connection = self.connection = await Connection.open(self.miner.port)
        if self.session is None and not await self._shake(connection):
            return
        assert self.session is not None
        step, echo, mark = self.scene.step, self.scene.echo, uuid.uuid4().hex
        filler = "a subnet is a market " * (self.dice.choice(SIZES) * KIB // 21)
        more = {"tools": [TOOL]} if self.dice.random() < 0.1 else {}
        token = self.session.seal(challenge(f"mark-{mark} {filler}", **more))
        began = time.monotonic()
        reply = await connection.request("POST", "/fiber/challenge", token, self.session.headers)
        self.used = time.monotonic()
        seconds = self.used - began
        if reply.status == OK:
            self._answered(reply, self.session, mark if echo and self.scene.step == step else None, seconds)
        elif reply.status == UNAUTHORIZED:
            self.session = None
            self.account.refused[f"{step} {reply.status}"] += 1
        else:
            self._refused(step, reply)

    async def _shake(self, connection: Connection) -> bool:
        """A handshake; False where the miner refuses it."""
        step = self.scene.step
        session = Session(self.hotkey)
        key = await connection.request("GET", "/fiber/public-key")
        if key.status != OK:
            self._refused(step, key)
            return False
        body = session.handshake(str(key.json()["public_key"]))
        reply = await connection.request("POST", KEY_EXCHANGE, body, {"Content-Type": "application/json"})
        if reply.status != OK:
            self._refused(f"{step}, handshake", reply)
            return False
        self.session = session
        return True

    def _refused(self, step: str, reply: Reply) -> None:
        if reply.status == SERVER_ERROR:
            self.account.lost.append(f"{step}: {reply.status} {reply.body[:200]!r}")
        else:
            self.account.refused[f"{step} {reply.status}"] += 1

    def _answered(self, reply: Reply, session: Session, mark: str | None, seconds: float) -> None:
        account, step = self.account, self.scene.step
        account.slowest = max(account.slowest, seconds)
        try:
            text = str(session.open(reply.body)["response_text"])
        except (InvalidToken, KeyError, msgspec.DecodeError) as error:
            account.lost.append(f"{step}: {error!r}")
            return
        account.answered += 1
        if not text:
            account.lost.append(f"{step}: an empty answer")
        if seconds > self.scene.late_seconds:
            account.late.append(f"{step}: {seconds:.1f} s")
        if mark is not None and not text.startswith(f"mark-{mark}"):
            account.wrong.append(f"{step}: {text[:100]}")

    def _hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


async def strangers(miner: MinerProcess, scene: Scene, *, seconds_between: float) -> None:
    """Everybody else: forged handshakes, rubbish, requests given up half-way, polls, OpenAI clients, scrapes."""
    dice = random.Random(78)
    while not scene.over:
        await scene.pause.wait()
        with contextlib.suppress(Closed, OSError, TimeoutError):
            async with asyncio.timeout(10):
                await dice.choice((_forged, _rubbish, _gone, _poll, _scrape))(miner)
        await asyncio.sleep(seconds_between)


async def _forged(miner: MinerProcess) -> None:
    async with await miner.connect() as connection:
        validator = Validator(connection)
        body = Session(validator.hotkey).handshake(await validator.public_key(), signature="0x" + "ab" * 64)
        reply = await connection.request("POST", KEY_EXCHANGE, body, {"Content-Type": "application/json"})
        assert reply.status != OK


async def _rubbish(miner: MinerProcess) -> None:
    async with await miner.connect() as connection:
        await connection.request("POST", "/fiber/challenge", b"\x00" * 2000, Session(Hotkey()).headers)


async def _gone(miner: MinerProcess) -> None:
    async with await miner.connect() as connection:
        connection.send(b"POST /fiber/challenge HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf")
        await asyncio.sleep(0.2)


async def _poll(miner: MinerProcess) -> None:
    async with await miner.connect() as connection:
        await connection.request("GET", "/availability")


async def _scrape(miner: MinerProcess) -> None:
    async with await Connection.open(miner.admin_port) as connection:
        await connection.request("GET", "/metrics")
        await connection.request("GET", "/health")
