"""Tokens a second of the embedded engine against one `llama_cpp.Llama` behind a lock, side by side.

    python -m tests.bench.engine_inprocess [--rounds 3] [--tokens 64] [--at-once 1 4 8]

Rounds alternate, so that what else the machine does strikes both alike; the table shows medians.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, cast

import llama_cpp
import msgspec

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.model_file import find_model
from app.backends.llama_local.options import LlamaLocalSettings
from app.backends.llama_local.threads import physical_cores
from app.domain.backend import Generation

SUBJECTS = ("the sea", "a mountain", "mathematics", "bread", "the moon", "a library", "winter", "music")
type Round = Callable[[list[str], int], Awaitable[int]]
"""Answers all questions at once; returns how many tokens were written."""


def engine_round(backend: LlamaLocalBackend) -> Round:
    """Through the backend, as a challenge goes."""

    async def one(question: str, tokens: int) -> int:
        chat = msgspec.json.encode([{"role": "user", "content": question}])
        wanted = Generation(messages=chat, max_tokens=tokens, temperature=0.0, top_p=1.0, hard_cut=float("inf"))
        written = 0
        async for delta in backend.generate(wanted):
            written = delta.completion_tokens
        return written

    async def all_at_once(questions: list[str], tokens: int) -> int:
        return sum(await asyncio.gather(*(one(question, tokens) for question in questions)))

    return all_at_once


def locked_round(llama: llama_cpp.Llama, pool: ThreadPoolExecutor) -> Round:
    """As many threads as questions, one lock."""
    lock = Lock()

    def one(question: str, tokens: int) -> int:
        with lock:
            chat: Any = [{"role": "user", "content": question}]
            answer = cast("Any", llama.create_chat_completion(chat, max_tokens=tokens, temperature=0.0))
        return int(answer["usage"]["completion_tokens"])

    async def all_at_once(questions: list[str], tokens: int) -> int:
        loop = asyncio.get_running_loop()
        return sum(await asyncio.gather(*(loop.run_in_executor(pool, one, question, tokens) for question in questions)))

    return all_at_once


async def rate(round_: Round, questions: list[str], tokens: int) -> float:
    """Tokens a second of one round."""
    began = time.perf_counter()
    return await round_(questions, tokens) / (time.perf_counter() - began)


async def measure(rounds: int, tokens: int, at_once: list[int]) -> None:
    """Print a line for each number of requests at once."""
    backend = LlamaLocalBackend(LlamaLocalSettings(parallel=max(at_once)), "embedded")
    await backend.open()
    while backend.status().loading:  # noqa: ASYNC110 - the protocol has a status, no event
        await asyncio.sleep(0.05)
    llama = llama_cpp.Llama(
        str(find_model(None)), n_ctx=2048, n_threads=physical_cores(), n_threads_batch=physical_cores(), verbose=False
    )
    write = sys.stdout.write
    with ThreadPoolExecutor(max(at_once)) as pool:
        sides = (engine_round(backend), locked_round(llama, pool))
        write("at once   engine t/s   one Llama t/s   ratio\n")
        for number in at_once:
            seen: tuple[list[float], list[float]] = ([], [])
            for turn in range(rounds):
                questions = [f"Write about {subject}, part {turn}." for subject in SUBJECTS[:number]]
                for side, rates in zip(sides, seen, strict=True):
                    rates.append(await rate(side, questions, tokens))
            ours, theirs = (statistics.median(rates) for rates in seen)
            ratio = statistics.median(a / b for a, b in zip(*seen, strict=True))
            write(f"{number:7}   {ours:10.1f}   {theirs:13.1f}   {ratio:5.2f}\n")
    llama.close()
    await backend.close()


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 8])
    options = parser.parse_args()
    asyncio.run(measure(options.rounds, options.tokens, options.at_once))


if __name__ == "__main__":
    main()
