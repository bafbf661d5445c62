"""The soak: two miners on one engine, under load, while things are done to them in cycles.

The *steady* miner lives through the whole run: its memory and descriptors are watched, its engine fails in all ways, is
killed and comes back, its wall clock is stepped, its disk fills up. The *mortal* one is stopped and killed by turns.
"""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

import psutil

from tests.miner.process import MinerProcess, StubEngine
from tests.soak.figures import Figures, Sample
from tests.soak.load import Account, Asker, Scene, strangers

CLOCK_LIBRARY: Final = "*/faketime/libfaketimeMT.so.1"
STATE_BYTES: Final = 32 * 1024 * 1024
ENGINE_FAULTS: Final = (
    "reset", "die", "garbage", "garbage_stream", "half_json", "bad_shape",
    "error_500", "error_503", "error_stream", "empty",
)  # fmt: skip
BEHIND_LIMIT_SECONDS: Final = 30.0
FAR_SECONDS: Final = 3600
READY_AGAIN_SECONDS: Final = 120.0


class Plan:
    """How long everything takes."""

    def __init__(self, *, seconds: float, short: bool) -> None:
        self.seconds = seconds
        self.short = short
        self.unit = 0.25 if short else 1.0
        self.warm_up = 0.0 if short else min(900.0, seconds / 4)
        # A short run cannot wait for the real deadline; a long one has it.
        self.cut: dict[str, object] = {"ANSWER_SOFT_STOP_SECONDS": 4, "ANSWER_HARD_CUT_SECONDS": 5} if short else {}
        self.endless = 8.0 if short else 55.0
        self.late = 30.0 if short else 60.0
        """A short run on a busy machine: what it holds is that the answer comes cut, not how fast."""


class Soak:
    """One run."""

    def __init__(self, folder: Path, engine: StubEngine, plan: Plan, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.engine = engine
        self.plan = plan
        self.say = say
        self.account = Account()
        self.scene = Scene(plan.late)
        self.left_out: list[str] = []
        self.samples: list[Sample] = []
        self.stops = self.kills = self.cycles = 0
        self.began = time.monotonic()
        settings: dict[str, object] = {
            "LLM_BACKEND": "vllm",
            "VLLM_API_BASE": engine.base_url,
            "DEFAULT_MODEL": engine.model,
            "ENABLE_RATE_LIMITS": "false",
            "FIBER_KEY_TTL_SECONDS": 300,  # sessions come and go many times in an hour
            "PROBE_INTERVAL_SECONDS": 2,
            "PROBE_TIMEOUT_SECONDS": 2,
        } | plan.cut
        self.state = self._small_disk()
        self.clock_file = folder / "clock"
        steady = settings | self._own_clock()
        if self.state is not None:
            steady["STATE_DIR"] = self.state
        (folder / "steady").mkdir()
        (folder / "mortal").mkdir()
        self.steady = MinerProcess(folder / "steady", steady)
        self.mortal = MinerProcess(folder / "mortal", settings)
        self.mortal_askers: list[Asker] = []

    def _small_disk(self) -> Path | None:
        """A file system of its own for the steady miner, small enough to be filled."""
        state = self.folder / "small-disk"
        state.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={STATE_BYTES},mode=0700", "soak", str(state)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.left_out.append(f"a full disk: no tmpfs can be mounted ({error})")
            return None
        return state

    def _own_clock(self) -> dict[str, object]:
        """A wall clock that is read from a file; the monotonic one stays the machine's, as when a real clock is set."""
        found = sorted(Path("/usr/lib").glob(CLOCK_LIBRARY))
        if not found:
            self.left_out.append("steps of the clock: no libfaketime (apt install faketime)")
            return {}
        self.step_clock(0)
        return {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": self.clock_file,
            "FAKETIME_CACHE_DURATION": 1,
            "DONT_FAKE_MONOTONIC": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        }

    def step_clock(self, seconds: float) -> None:
        """Set the steady miner's wall clock so far off; seen within a second."""
        fresh = self.clock_file.with_suffix(".new")
        fresh.write_text(f"{seconds:+.0f}\n", encoding="ascii")
        fresh.replace(self.clock_file)

    async def run(self) -> Figures:
        """All of it. Whatever happens, nothing is left running or mounted."""
        try:
            self.steady.start()
            self.mortal.start()
            async with self._load():
                while time.monotonic() - self.began < self.plan.seconds or not self.cycles:
                    await self._cycle()
                    self.cycles += 1
        finally:
            self.scene.over = True
            self.steady.stop()
            self.mortal.stop()
            if self.state is not None:
                await asyncio.to_thread(_unmount, self.state)
        return self.figures()

    @contextlib.asynccontextmanager
    async def _load(self) -> AsyncGenerator[None]:
        """Validators and strangers on both miners."""
        between = self.plan.unit
        steady = [Asker(self.steady, self.account, self.scene, seconds_between=between) for _ in range(4)]
        self.mortal_askers = [Asker(self.mortal, self.account, self.scene, seconds_between=between) for _ in range(3)]
        works = [asker.run() for asker in (*steady, *self.mortal_askers)]
        works.append(strangers(self.steady, self.scene, seconds_between=between))
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield
            for task in tasks:
                if task.done():
                    await task  # a defect of the load's own
        finally:
            self.scene.over = True
            self.scene.pause.set()
            _, alive = await asyncio.wait(tasks, timeout=100)
            for task in alive:
                task.cancel()

    async def _cycle(self) -> None:
        """Everything that can happen, once."""
        await self._plain()
        await self._engine_faults()
        await self._endless()
        await self._engine_killed()
        if self.clock_file.exists():
            await self._clock_steps()
        if self.state is not None:
            await self._full_disk(self.state)
        await self._stop_or_kill()
        await self._rest()

    async def _step(self, name: str, seconds: float, *, echo: bool = False) -> None:
        """Let the load run for a while under that name."""
        self.scene.echo, self.scene.step = echo, name
        await asyncio.sleep(seconds * self.plan.unit)
        self.scene.echo = False

    def _behave(self, **behaviour: object) -> None:
        self.engine.behave(reset=True, **behaviour)

    async def _ready(self) -> None:
        """Wait until both miners serve again."""
        self.scene.step = "coming back"
        for miner in (self.steady, self.mortal):
            await asyncio.to_thread(miner.wait_ready, READY_AGAIN_SECONDS)

    async def _plain(self) -> None:
        self._behave(echo=True, first_token_ms=50, token_ms=5, chunks=8)
        await self._ready()
        await self._step("plain", 40, echo=True)

    async def _engine_faults(self) -> None:
        for fault in ENGINE_FAULTS:
            self._behave(fault=fault, first_token_ms=20)
            await self._step(f"engine {fault}", 2)
        self._behave(echo=True)
        await self._ready()

    async def _endless(self) -> None:
        """An engine that never stops by itself: the deadline does."""
        self._behave(endless=True, token_ms=50, sentence_every=20)
        await self._step("endless", self.plan.endless / self.plan.unit)
        self._behave(echo=True)

    async def _engine_killed(self) -> None:
        self.scene.step = "engine killed"
        await asyncio.to_thread(self._kill_engine)
        await self._step("engine killed", 5)
        port = self.engine.port
        self.engine = await asyncio.to_thread(lambda: StubEngine("--port", str(port)))
        self._behave(echo=True)
        await self._ready()
        await self._step("engine back", 5, echo=True)

    def _kill_engine(self) -> None:
        self.engine.process.kill()
        self.engine.stop()

    async def _clock_steps(self) -> None:
        """A little off either way, where nobody may notice; then an hour, where handshakes are refused; and right."""
        for seconds in (20, -20):
            self.step_clock(seconds)
            await self._step("clock a little off", 8, echo=True)
        for seconds in (FAR_SECONDS, -FAR_SECONDS):
            self.step_clock(seconds)
            await self._step("clock an hour off", 6)
        self.step_clock(0)
        await self._step("clock set right", 6)
        await self._ready()
        await self._step("clock right", 8, echo=True)

    async def _full_disk(self, state: Path) -> None:
        """No room for the log and the lists: answers go on."""
        filler = state / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"\0" * 65536) == 65536:
                pass
        try:
            await self._step("disk full", 15, echo=True)
        finally:
            filler.unlink()
        await self._step("disk free again", 5, echo=True)

    async def _stop_or_kill(self) -> None:
        """By turns; a stop answers what it accepted, and that is held: only what is sent later may find nobody."""
        self._behave(echo=True, first_token_ms=500)
        await self._step("plain, slower", 5, echo=True)
        self.scene.step = "miner ends"
        if self.cycles % 2:
            self.kills += 1
            self._dying(now=True)
            await asyncio.to_thread(self.mortal.kill)
        else:
            self.stops += 1
            for asker in self.mortal_askers:
                asker.stopping = True
            self.mortal.signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
            self._dying(now=True)
            if await asyncio.to_thread(self.mortal.wait) != 0:
                self.account.lost.append(f"a stop ended with {self.mortal.process and self.mortal.process.returncode}")
        left = self.mortal.survivors()
        if left and await asyncio.to_thread(_remain, left):
            self.account.lost.append(f"a miner that ended left {left}")
        await asyncio.to_thread(self.mortal.restart)
        self._dying(now=False)

    def _dying(self, *, now: bool) -> None:
        for asker in self.mortal_askers:
            asker.dying, asker.stopping = now, False

    async def _rest(self) -> None:
        """No load for a moment, and a look at the steady miner."""
        self._behave(echo=True)
        self.scene.pause.clear()
        self.scene.step = "rest"
        await asyncio.sleep(8 * self.plan.unit)
        anonymous, descriptors = self.steady.anonymous(), self.steady.fds()
        self.samples.append(Sample(time.monotonic() - self.began, anonymous, descriptors))
        account = self.account
        self.say(
            f"{(time.monotonic() - self.began) / 60:6.1f} min  {account.answered} answered, {len(account.lost)} lost, "
            f"{len(account.late)} late, {anonymous / 1e6:.1f} MB, {descriptors} descriptors"
        )
        self.scene.pause.set()

    def figures(self) -> Figures:
        """What it came to."""
        account = self.account
        return Figures(
            seconds=time.monotonic() - self.began,
            cycles=self.cycles,
            answered=account.answered,
            refused=dict(account.refused),
            lost=account.lost,
            late=account.late,
            wrong=account.wrong,
            killed_in_flight=account.killed,
            slowest_seconds=account.slowest,
            stops=self.stops,
            kills=self.kills,
            left_out=self.left_out,
            samples=self.samples,
            warm_up_seconds=self.plan.warm_up,
        )


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _remain(processes: list[psutil.Process]) -> bool:
    """Whether any of them still runs after a while."""
    return bool(psutil.wait_procs(processes, timeout=15)[1])


def loud(text: str) -> None:
    """To whoever watches."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
