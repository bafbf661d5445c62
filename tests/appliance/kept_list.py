"""The allow-list that a running miner keeps in STATE_DIR, written as the miner writes it."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from app.clock import SystemClock
from app.domain.allow_list import ListSource
from app.domain.source_list import ListedValidator, SourceList
from app.state.allow_list_rows import AllowListRows
from app.state.database import Database


def keep_list(
    state_dir: Path,
    addresses: Mapping[str, tuple[str, ...]],
    *,
    age: float = 0,
    source: ListSource = "challenge-api",
    origin: str = "https://challenge.loosh.ai",
    stake: float | None = None,
) -> None:
    """Keep a list of validators, by hotkey, that was read `age` seconds ago."""
    listed = tuple(ListedValidator(hotkey=hotkey, addresses=found, stake=stake) for hotkey, found in addresses.items())

    async def save() -> None:
        database = Database(state_dir, SystemClock())
        await AllowListRows(database).save(
            SourceList(
                source=source,
                origin=origin,
                fetched=time.time() - age,
                validators=listed,
            )
        )
        await database.close()

    asyncio.run(save())
