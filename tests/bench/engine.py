"""Tokens a second and latencies of the configured engine, side by side with others on the same weights.

    python -m tests.bench.engine [--rounds 3] [--tokens 48] [--at-once 1 4 8] [--json FILE]

The engine is the one that the settings say (LLM_BACKEND and so on, from the environment and .env), behind the miner's
own backend classes. Beside it: llama.cpp's own server with as many slots (`just build-llama-server`), and one
`llama_cpp.Llama` behind a lock. Sides take turns within each round, so that what else the machine does strikes all
alike; every round has all prompts, which no side has seen before. Both peers run on this machine's processors.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Final, Literal

import msgspec
from rich.console import Console

from app.backends.dialects import Vllm
from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.threads import physical_cores
from app.backends.openai_api import OpenAiBackend
from app.cli.common import load_settings
from app.clock import SystemClock
from app.domain.backend import Backend
from app.engines import build_backend
from app.errors import MinerError
from app.settings import Settings
from tests.bench.engine_figures import ENGINE, Ratio, Round, Written, figures, ratio
from tests.bench.engine_report import Result, show
from tests.bench.engine_sides import BackendSide, LockSide, Side
from tests.bench.others_cpu import OthersCpu
from tests.peers.llama_build import built
from tests.peers.llama_server import NOT_BUILT, LlamaServer

SUBJECTS: Final = ("the sea", "a mountain", "mathematics", "bread", "the moon", "a library", "winter", "music")
NOTES: Final = {"short": (0, 0, 0, 0, 0, 1, 1, 2), "mixed": (0, 0, 1, 2, 4, 8, 16, 28)}
"""Sentences before each question: prompts from some 20 to some 60, or to some 500 tokens."""
PEERS: Final = ("llama-server", "lock")
LEAST: Final = {("lock", 8): (2.0, 2.5), ("llama-server", 8): (0.9, 1.0)}
"""What must hold and what is aimed at, for the engine in the process."""
SERVER_CONTEXT: Final = 2048
PAUSE: Final = 0.3
"""Between two rounds, in seconds: threads that still wait for work, spinning, come to rest."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line."""

    rounds: int
    tokens: int
    at_once: list[int]
    peers: list[str]
    prompts: Literal["short", "mixed"]
    model: Path | None
    env_file: Path | None
    json: Path | None


def prompts(turn: int, kind: str) -> list[str]:
    """The prompts of one round, short ones or a mix, none with a beginning that another round's has."""
    made: list[str] = []
    for subject, notes in zip(SUBJECTS, NOTES[kind], strict=True):
        noted = " ".join(
            f"Note {number}: on day {number + turn} somebody wrote of {subject}." for number in range(notes)
        )
        made.append(f"Story {turn}. {noted} Write a very long story about {subject}.")
    return made


async def one_round(side: Side, at_once: int, turn: int, options: Options) -> Round:
    """All prompts, never more than `at_once` of them under way."""
    waiting = iter(prompts(turn, options.prompts))

    async def worker() -> list[Written]:
        return [await side.write(prompt, options.tokens) for prompt in waiting]

    others, began = OthersCpu(), perf_counter()
    answers = [answer for part in await asyncio.gather(*(worker() for _ in range(at_once))) for answer in part]
    seconds = perf_counter() - began
    return Round(side=side.name, at_once=at_once, turn=turn, seconds=seconds, answers=answers, others=others.share())


async def measure(sides: Sequence[Side], options: Options) -> list[Round]:
    """All rounds. The order of the sides changes with each turn, so that none always comes after the same other."""
    rounds: list[Round] = []
    for side in sides:
        await side.write("Warm up.", 8)
    for at, at_once in enumerate(options.at_once):
        for turn in range(options.rounds):
            for offset in range(len(sides)):
                side = sides[(turn + offset) % len(sides)]
                await asyncio.sleep(PAUSE)
                done = await one_round(side, at_once, at * options.rounds + turn, options)
                rounds.append(done)
                note = f", {done.others:.0%} of the machine taken by others" if done.disturbed else ""
                say(f"  {side.name}, {at_once} at once: {done.rate:.1f} tokens/s{note}")
    return rounds


async def bench(options: Options, settings: Settings, folder: Path) -> Result:
    """Open all sides, measure, close them. Errors: `MinerError`."""
    notes: list[str] = []
    slots, threads = max(options.at_once), settings.llama_threads or physical_cores()
    async with AsyncExitStack() as stack:

        async def opened(side: Side) -> Side:
            stack.push_async_callback(side.close)
            await side.open()
            return side

        backend = build_backend(settings, SystemClock())
        engine = BackendSide(ENGINE, backend)
        sides = [await opened(engine)]
        model = weights(options, backend, notes)
        if model is not None and "llama-server" in options.peers:
            if built() is None:
                notes.append(NOT_BUILT)
            else:
                server = LlamaServer(folder, slots=slots, context=SERVER_CONTEXT, threads=threads, model=model)
                stack.callback(server.stop)
                await asyncio.to_thread(server.wait_ready)
                sides.append(await opened(BackendSide("llama-server", OpenAiBackend(Vllm(None, 0), server.base_url))))
        if model is not None and "lock" in options.peers:
            sides.append(await opened(LockSide(model, threads, slots)))
        rounds = await measure(sides, options)
        return result(rounds, settings, engine.model, [*notes, *short(rounds, options)])


def weights(options: Options, backend: Backend, notes: list[str]) -> Path | None:
    """The GGUF file for the peers, which is the engine's own; None where there is nothing to compare with."""
    if options.model is not None:
        return options.model
    if isinstance(backend, LlamaLocalBackend) and backend.engine is not None:
        notes.append(f"All sides have the weights in {backend.engine.path.name}.")
        return backend.engine.path
    notes.append(
        "No peers: the weights that this engine has are not known here. --model FILE.gguf names the same ones."
    )
    return None


def short(rounds: Sequence[Round], options: Options) -> list[str]:
    """What to know where answers ended before they were as long as wanted."""
    wanted = options.tokens * len(SUBJECTS)
    sides = {one.side for one in rounds if sum(answer.tokens for answer in one.answers) < wanted}
    if not sides:
        return []
    return [f"Some answers were shorter than {options.tokens} tokens ({', '.join(sorted(sides))}): fewer ran at once."]


def result(rounds: Sequence[Round], settings: Settings, model: str, notes: list[str]) -> Result:
    """Medians and ratios of all rounds."""
    by_side = {
        key: list(group)
        for key, group in groupby(
            sorted(rounds, key=lambda one: (one.at_once, one.side)), lambda one: (one.at_once, one.side)
        )
    }
    ratios: list[Ratio] = []
    for (at_once, side), those in by_side.items():
        if side != ENGINE:
            known = LEAST.get((side, at_once)) if settings.llm_backend == "llamacpp" else None
            must, aim = known or (None, None)
            ratios.append(ratio(by_side[at_once, ENGINE], those, must=must, aim=aim))
    return Result(
        engine=settings.llm_backend,
        model=model,
        cpus=physical_cores(),
        others=max(one.others for one in rounds),
        figures=[figures(those) for those in by_side.values()],
        ratios=ratios,
        notes=notes,
    )


def say(text: str) -> None:
    """Tell how it goes; figures go to stdout."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def arguments(given: Sequence[str] | None = None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns at each number at once; 3 if not given")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer; 48 if not given")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 8], metavar="N", help="1 4 8 if not given")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="all if not given")
    parser.add_argument(
        "--prompts",
        choices=list(NOTES),
        default="short",
        help="some 20 to 60 tokens each (short, if not given) or to 500",
    )
    parser.add_argument("--model", type=Path, help="GGUF file for the peers; the engine's own if not given")
    parser.add_argument("--env-file", type=Path, help="settings; .env in the current directory if not given")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    read = parser.parse_args(given)
    if min(read.rounds, read.tokens, *read.at_once) < 1:
        parser.error("--rounds, --tokens and --at-once are 1 or more")
    return msgspec.convert(vars(read), Options)


def main() -> int:
    """Measure, print, write."""
    options = arguments()
    try:
        settings = load_settings(options.env_file).settings
        with tempfile.TemporaryDirectory() as folder:
            measured = asyncio.run(bench(options, settings, Path(folder)))
    except MinerError as error:
        say(f"bench-engine: {error}")
        return 1
    show(measured, Console(width=140))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
