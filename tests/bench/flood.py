"""`python -m tests.bench.flood`: what a refusal costs, and what 2000 a second do to honest validators (threat 22).

The miner has the first core for itself; the flood, the engine stub and the validators share the second one, so that
the figures tell of the miner and not of who makes the load.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from tests.miner.flood import Flood, Order
from tests.miner.http import Connection, encode, once
from tests.miner.process import MinerProcess, StubEngine, strange_address
from tests.miner.validator import CHALLENGE, KEY_EXCHANGE, Hotkey, Session, Validator, challenge, handshake_fields

VALIDATORS: Final = 20
PAUSE_SECONDS: Final = 0.55
"""Under the budget that a source nobody knows has for challenges."""
JSON: Final = {"Content-Type": "application/json"}
HOST: Final = "miner"
LIMITED: Final = 429
_NANO: Final = 1e9
_LEAST_URGENT: Final = 19


def processor_seconds(pid: int) -> float:
    """What all threads of a process have used, to the nanosecond."""
    total = 0
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(schedstat.read_text(encoding="ascii").split()[0])
    return total / _NANO


def pin(pid: int, core: int) -> None:
    """Keep a process with all its threads on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


class Costs:
    """Processor time of single requests, each kind many times over."""

    def __init__(self, miner: MinerProcess, count: int) -> None:
        self.miner = miner
        self.count = count
        self.rows: list[tuple[str, float]] = []

    async def of(self, name: str, status: int, send: Callable[[], Awaitable[int]]) -> None:
        """Measure one kind."""
        await send()
        before = processor_seconds(self.miner.pid)
        for _ in range(self.count):
            got = await send()
            assert got == status, (name, got)
        self.rows.append((name, (processor_seconds(self.miner.pid) - before) * 1e6 / self.count))

    async def on_one_connection(self, name: str, status: int, requests: Iterable[bytes], source: str) -> None:
        """The requests, again and again, on a connection that stays."""
        around = list(requests)
        at = 0
        async with await Connection.open(self.miner.port, source=source) as connection:

            async def send() -> int:
                nonlocal at
                at += 1
                connection.send(around[at % len(around)])
                return (await connection.reply()).status

            await self.of(name, status, send)

    async def run(self, limited: MinerProcess) -> None:
        """All kinds; `limited` is a miner with limits, `self.miner` one without."""
        victim = await self.miner.validator()
        session = await victim.shake()
        host = f"127.0.0.1:{self.miner.port}"

        async def ask() -> int:
            return (await victim.send(challenge("a" * 1024))).status

        await self.of("200: a challenge of 1 KB, answered", 200, ask)
        thief = Session(victim.hotkey)
        junk = thief.seal(challenge("a" * 1024))
        pem = await victim.public_key()
        fields = [handshake_fields(Hotkey(), pem, b"k" * 44, signature="0x" + "5a" * 64) for _ in range(self.count + 1)]
        forged = [encode("POST", KEY_EXCHANGE, encoded(one), JSON, host=host) for one in fields]
        stale = encode("POST", KEY_EXCHANGE, encoded(fields[0] | {"timestamp": 1.5}), JSON, host=host)
        here = "127.0.0.1"
        await self.on_one_connection("400: a handshake with a forged signature", 400, forged, here)
        await self.on_one_connection("400: a handshake that is stale", 400, [stale], here)
        bad_token = encode("POST", CHALLENGE, junk, session.headers, host=host)
        await self.on_one_connection("401: a token of another key, in a genuine session's name", 401, [bad_token], here)
        unknown = encode("POST", CHALLENGE, junk, thief.headers, host=host)
        await self.on_one_connection("401: no such session", 401, [unknown], here)
        await self.on_one_connection("404: no such path", 404, [encode("GET", "/x", None, None, host=host)], here)
        await self.limited(limited, encode("POST", CHALLENGE, junk, thief.headers, host=host))
        victim.close()

    async def limited(self, limited: MinerProcess, request: bytes) -> None:
        """A source over its limit."""
        self.miner = limited
        source = strange_address()
        spent = encode("GET", "/availability", None, None, host=HOST)
        while (await once(limited.port, "GET", "/availability", source=source)).status != LIMITED:
            pass
        while (await once(limited.port, "POST", CHALLENGE, b"x", source=source)).status != LIMITED:
            pass
        await self.on_one_connection("429: over the limit, connection kept, no body", 429, [spent], source)
        await self.on_one_connection("429: over the limit, connection kept, body of 2 KB", 429, [request], source)

        async def anew() -> int:
            return (await once(limited.port, "GET", "/availability", source=source)).status

        await self.of("429: over the limit, a new connection each", 429, anew)


def encoded(fields: dict[str, object]) -> bytes:
    """A handshake's body."""
    return json.dumps(fields).encode()


async def honest(validators: list[Validator], seconds: float) -> list[float]:
    """All validators ask on and on; gives the seconds of each answer."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    waited: list[float] = []

    async def one(at: int, validator: Validator) -> None:
        await asyncio.sleep(PAUSE_SECONDS * at / len(validators))
        while loop.time() < end:
            began = loop.time()
            await validator.ask("question")
            waited.append(loop.time() - began)
            await asyncio.sleep(PAUSE_SECONDS)

    await asyncio.gather(*(one(at, validator) for at, validator in enumerate(validators)))
    return waited


def flood_order(port: int, victim: Validator, pem: str, seconds: float, rate: int) -> Order:
    """Forgeries of all kinds from 400 addresses, two thirds of them over their limit."""
    session = victim.session
    assert session is not None
    junk = Session(victim.hotkey).seal(challenge("not mine"))
    requests = [
        encode("GET", "/availability", None, None, host=HOST),
        encode("POST", KEY_EXCHANGE, b'{"validator_hotkey_ss58": 1}', JSON, host=HOST),
        encode("POST", CHALLENGE, junk, session.headers, host=HOST),
        encode("POST", CHALLENGE, b"junk", session.headers, host=HOST),
    ]
    for _ in range(40):
        fields = handshake_fields(Hotkey(), pem, b"k" * 44, signature="0x" + "5a" * 64)
        requests.append(encode("POST", KEY_EXCHANGE, encoded(fields), JSON, host=HOST))
    sources = [f"127.6.{1 + at // 200}.{at % 200 + 1}" for at in range(400)]
    return Order(port=port, requests=requests, sources=sources, total=int(seconds * rate), rate=rate)


def told(waited: list[float]) -> tuple[str, str, str]:
    """p50, p95 and p99 in ms."""
    cuts = statistics.quantiles(waited, n=100)
    return f"{cuts[49] * 1000:.1f}", f"{cuts[94] * 1000:.1f}", f"{cuts[98] * 1000:.1f}"


async def flooded(miner: MinerProcess, seconds: float, rate: int, console: Console) -> None:
    """Honest validators alone, and beside a flood."""
    async with await miner.connect() as connection:
        victim = Validator(connection)
        pem = await victim.public_key()
    validators = [await miner.validator(f"127.9.0.{at + 1}") for at in range(VALIDATORS)]
    for validator in validators:
        await validator.shake(pem)
    alone = await honest(validators, seconds)
    before, loop = processor_seconds(miner.pid), asyncio.get_running_loop()
    flood = await Flood.start(flood_order(miner.port, validators[0], pem, seconds + 4, rate))
    # The sender gives way to stub and validators, on whose core it runs: their waiting is to be the miner's doing.
    os.setpriority(os.PRIO_PROCESS, flood.process.pid, _LEAST_URGENT)
    await asyncio.sleep(2.5)  # its interpreter's start and its 400 connections are none of the miner's work
    began = loop.time()
    before = processor_seconds(miner.pid)
    beside = await honest(validators, seconds)
    busy = (processor_seconds(miner.pid) - before) / (loop.time() - began)
    report = await flood.report()
    await flood.stop()
    table = Table(title=f"{VALIDATORS} validators, a flood of {report.sent / report.seconds:.0f} requests a second")
    for name in ("", "answers", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("alone", str(len(alone)), *told(alone))
    table.add_row("beside the flood", str(len(beside)), *told(beside))
    console.print(table)
    console.print(
        f"the flood was told {report.statuses}, {report.closed} closed; the miner used {busy:.0%} of its core"
    )
    for validator in validators:
        validator.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--count", type=int, default=500, help="requests of each kind for its cost")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as folder, StubEngine() as engine:
        settings = {"LLM_BACKEND": "vllm", "VLLM_API_BASE": engine.base_url, "DEFAULT_MODEL": engine.model}

        def start(name: str, limits: str) -> MinerProcess:
            home = Path(folder, name)
            home.mkdir()
            return MinerProcess(home, settings | {"ENABLE_RATE_LIMITS": limits, "MAX_CONCURRENT_REQUESTS": 64}).start()

        with start("limited", "true") as limited:
            pin(limited.pid, cores[0])
            with start("open", "false") as unlimited:
                pin(unlimited.pid, cores[0])
                costs = Costs(unlimited, options.count)
                uvloop.run(costs.run(limited))
            one = costs.rows[0][1]
            table = Table(title="CPU of the miner")
            for name in ("request", "microseconds", "of an answered challenge"):
                table.add_column(name, justify="left" if name == "request" else "right")
            for name, cost in costs.rows:
                table.add_row(name, f"{cost:.0f}", f"{cost / one:.0%}")
            console.print(table)
            engine.behave(first_token_ms=20)
            uvloop.run(flooded(limited, options.seconds, options.rate, console))


if __name__ == "__main__":
    main()
