"""A day of made-up challenges in a state directory, as a miner that ran before left it."""

import asyncio
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from app.clock import SystemClock
from app.domain.challenge_log import ChallengeRecord
from app.state.challenge_rows import ChallengeRows
from app.state.database import Database

SECONDS: Final = 23 * 3600


def write_past(state: Path, hotkeys: list[str], count: int = 2000) -> None:
    """Answers, some refused and failed ones, and an hour in which nobody asked."""
    rng = random.Random(8)
    now = time.time()
    records: list[ChallengeRecord] = []
    for number in range(count):
        ago = SECONDS * (1 - number / count) + 30
        hotkey, at = hotkeys[number % len(hotkeys)], now - ago
        seconds = round(min(50.0, rng.lognormvariate(2.2, 0.7)), 3)
        if 9 < ago / 3600 < 10:
            continue
        if 14 < ago / 3600 < 14.5:
            records.append(ChallengeRecord(at, hotkey, "failed", "backend"))
        elif rng.random() < 0.02:
            records.append(ChallengeRecord(at, hotkey, "refused", "queue_full"))
        else:
            outcome = "cut" if seconds >= 50 else "ok"
            records.append(ChallengeRecord(at, hotkey, outcome, "", seconds, 0.01, 0.4, 900, rng.randint(50, 900)))

    async def write() -> None:
        database = Database(state, SystemClock())
        assert await ChallengeRows(database).append(records)
        await database.close()

    # In a thread: a browser's driver may have its own loop in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(write())).result()
