"""`python -m tests.bench`: measure our miner, started on the engine stub, or any running miner by `--url`."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import uvloop
from rich.console import Console

from tests.bench import floors
from tests.bench.bare import BareStack
from tests.bench.load import KIB, Load, Target
from tests.bench.report import REFERENCE_CPU_MS, Result, Row, challenge_budget, show
from tests.miner.process import MinerProcess, StubEngine, cpu_seconds, pss_bytes

ENGINE_MS: Final = 50
STARTS: Final = 3
MEGA: Final = 1_000_000
SLOTS: Final = {"MAX_CONCURRENT_REQUESTS": 64, "MAX_QUEUED_REQUESTS": 256, "ENABLE_RATE_LIMITS": "false"}


class Bench:
    """The measurements, one after another, on one miner."""

    def __init__(self, target: Target, pid: int | None, engine: StubEngine | None, *, quick: bool) -> None:
        self.target = target
        self.pid = pid
        self.engine = engine
        self.scale = 1 if quick else 5
        self.rows: list[Row] = []
        self.say = partial(print, file=sys.stderr, flush=True)

    def cpu(self) -> float:
        """The miner's processor seconds so far, or 0 where no process id was given."""
        return cpu_seconds(self.pid) if self.pid is not None else 0.0

    def behave(self, **behaviour: object) -> None:
        """Set the stub, where the engine is the stub."""
        if self.engine is not None:
            self.engine.behave(reset=True, **behaviour)

    def add(self, row: Row) -> None:
        """Keep a figure and say it at once."""
        self.rows.append(row)
        self.say(f"  {row.name}: {row.value:.3f} {row.unit}")

    async def run(self) -> list[Row]:
        """All of it."""
        self.say("warming up")
        async with Load.open(self.target, self.cpu, 10) as load:
            await load.challenges(KIB, 200)
        if self.pid is not None:
            before = pss_bytes(self.pid)
            self.add(Row(name="PSS idle", value=before / MEGA, unit="MB", must=80, aim=70))
            await self.growth()
            await self.cpu_of_challenges()
        await self.latencies()
        await self.handshakes()
        return self.rows

    async def compared(self) -> dict[str, float]:
        """What the bare stack is asked for too, by name."""
        self.say("the bare stack")
        await self.plain_challenges()
        await self.handshakes()
        return {row.name: row.value for row in self.rows if row.unit == "ms CPU"}

    async def plain_challenges(self) -> None:
        """Processor time of one challenge, the engine answering at once."""
        for at_once, kib in [*REFERENCE_CPU_MS, (50, 1), (1, 128)]:
            self.behave()
            await self.one_cpu(at_once, kib, "", 1)

    async def cpu_of_challenges(self) -> None:
        """The same, and with answers that come in many pieces."""
        await self.plain_challenges()
        if self.engine is not None:
            for kib in (1, 16):
                self.behave(chunks=32, token_ms=1)
                await self.one_cpu(10, kib, ", answer in 32 chunks", 2)

    async def one_cpu(self, at_once: int, kib: int, suffix: str, factor: float) -> None:
        """One such figure."""
        count = 2000 * self.scale // (1 if kib < 128 else 4)
        must, aim = challenge_budget(at_once, kib)
        async with Load.open(self.target, self.cpu, at_once) as load:
            await load.challenges(kib * KIB, 100)
            spent = await load.challenges(kib * KIB, count)
        self.add(
            Row(
                name=f"CPU a challenge, {at_once} at once, {kib} KB in, 2 KB out{suffix}",
                value=spent.cpu_ms,
                unit="ms CPU",
                must=None if must is None else must * factor,
                aim=None if aim is None else aim * factor,
                note=f"{spent.count / spent.wall:.0f} a second",
            )
        )

    async def latencies(self) -> None:
        """How long a validator waits, the engine answering after 50 ms."""
        for at_once, count in ((1, 20), (10, 100), (50, 400)):
            self.behave(first_token_ms=ENGINE_MS)
            async with Load.open(self.target, self.cpu, at_once) as load:
                await load.challenges(KIB, at_once * 2)
                spent = await load.challenges(KIB, count * self.scale)
            budgets = {50: (65, 57), 99: (120, 80)} if at_once == 50 else {}
            for percent in (50, 95, 99):
                must, aim = budgets.get(percent, (None, None))
                name = f"p{percent}, {at_once} at once, 1 KB in, engine answers after {ENGINE_MS} ms"
                self.add(Row(name=name, value=spent.quantile_ms(percent / 100), unit="ms", must=must, aim=aim))

    async def handshakes(self) -> None:
        """Handshakes and the smallest request there is."""
        self.behave()
        async with Load.open(self.target, self.cpu, 10) as load:
            await load.handshakes(50)
            spent = await load.handshakes(200 * self.scale)
            self.add(Row(name="handshakes", value=spent.count / spent.wall, unit="/s", note="10 at once"))
            if self.pid is not None:
                self.add(Row(name="CPU a handshake", value=spent.cpu_ms, unit="ms CPU", must=1.1 / 2.2, aim=1.1 / 2.6))
            await load.availability(500)
            spent = await load.availability(4000 * self.scale)
            if self.pid is not None:
                row = Row(name="CPU /availability", value=spent.cpu_ms, unit="ms CPU", must=0.48 / 7, aim=0.48 / 9)
                self.add(row)

    async def growth(self) -> None:
        """Memory after many challenges and sessions."""
        assert self.pid is not None
        challenges, sessions = 4000 * self.scale, 1000 * self.scale
        self.behave()
        async with Load.open(self.target, self.cpu, 10) as load:
            await load.handshakes(50)
            before = pss_bytes(self.pid)
            await load.challenges(KIB, challenges)
            for _ in range(10):
                await load.handshakes(sessions // 10)
        grown = (pss_bytes(self.pid) - before) / MEGA
        name = f"PSS growth, {challenges} challenges and {sessions} sessions"
        self.add(Row(name=name, value=grown, unit="MB", must=5, aim=2))


def first_answer(start: Callable[[], MinerProcess]) -> list[Row]:
    """From exec to the first 200 on `/availability`, whatever it says: the best of three starts."""
    seen: list[tuple[float, float]] = []
    for _ in range(STARTS):
        began = time.perf_counter()
        miner = start()
        try:
            miner.start(wait=False)
            next(miner.polls(30, pause=0.01))
            seen.append((miner.cpu(), time.perf_counter() - began))
        finally:
            miner.stop()
    cpu, wall = min(seen)
    return [
        Row(name="exec to first 200, CPU", value=cpu, unit="CPU-s", must=1.2, aim=1.0),
        Row(name="exec to first 200, wall", value=wall, unit="s", note="prototype: 0.98"),
    ]


def own_miner(*, quick: bool) -> list[Row]:
    """Measure our miner with the engine stub."""
    with tempfile.TemporaryDirectory() as folder, StubEngine() as engine:

        def make() -> MinerProcess:
            engine_settings = {"LLM_BACKEND": "vllm", "VLLM_API_BASE": engine.base_url, "DEFAULT_MODEL": engine.model}
            return MinerProcess(Path(folder), SLOTS | engine_settings)

        rows = first_answer(make)
        with make().start() as miner:
            bench = Bench(Target("127.0.0.1", miner.port), miner.pid, engine, quick=quick)
            rows += uvloop.run(bench.run())
        with BareStack(engine) as stack:
            bench = Bench(Target("127.0.0.1", stack.port), stack.process.pid, engine, quick=quick)
            bare = uvloop.run(bench.compared())
        return [msgspec.structs.replace(row, bare=bare.get(row.name)) for row in rows]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--url", help="a running miner; without it ours is started with the engine stub")
    parser.add_argument("--pid", type=int, help="its process id, for processor time and memory")
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    floor = floors.measure()
    if options.url:
        url = urlsplit(str(options.url))
        target = Target(url.hostname or "127.0.0.1", url.port or 80)
        rows = asyncio.run(Bench(target, options.pid, None, quick=options.quick).run())
        name = options.url
    else:
        rows, name = own_miner(quick=options.quick), "our miner"
    result = Result(target=name, floors=floor.mean(floors.measure()), rows=rows)
    show(result, Console(width=160))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)))


if __name__ == "__main__":
    main()
