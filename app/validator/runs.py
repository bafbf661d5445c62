"""Many challenges, some side by side, and what came of them."""

import asyncio
import time
from collections import Counter

import msgspec

from app.validator.client import ReceivedAnswer, ValidatorClient
from app.validator.errors import NotAnswered


class Summary(msgspec.Struct, frozen=True):
    """What came of a run. Seconds are of answered challenges, and null when there are none."""

    asked: int
    ok: int
    failed: dict[str, int]
    """Count by status, or by a word where there is none."""
    wall_seconds: float
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None
    completion_tokens: int
    tokens_per_second: float


async def run_many(client: ValidatorClient, payload: object, *, repeat: int, concurrency: int) -> Summary:
    """Send the challenge `repeat` times, at most `concurrency` at once."""
    answers: list[ReceivedAnswer] = []
    failed: Counter[str] = Counter()
    numbers = iter(range(repeat))

    async def work() -> None:
        for _ in numbers:  # one iterator for all workers: each takes the next
            try:
                answers.append(await client.challenge(payload))
            except NotAnswered as error:
                failed[error.label] += 1

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, repeat)):
            group.create_task(work())
    return _summarise(answers, failed, time.perf_counter() - started)


def _summarise(answers: list[ReceivedAnswer], failed: Counter[str], wall: float) -> Summary:
    seconds = sorted(answer.seconds for answer in answers)
    tokens = sum(received.answer.usage.completion_tokens for received in answers if received.answer.usage)
    return Summary(
        asked=len(answers) + failed.total(),
        ok=len(answers),
        failed=dict(sorted(failed.items())),
        wall_seconds=round(wall, 3),
        p50_seconds=percentile(seconds, 50),
        p95_seconds=percentile(seconds, 95),
        p99_seconds=percentile(seconds, 99),
        completion_tokens=tokens,
        tokens_per_second=round(tokens / wall, 1) if wall else 0.0,
    )


def percentile(ordered: list[float], percent: int) -> float | None:
    """Take the value that `percent` of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * percent // 100))
    return round(ordered[rank - 1], 4)
