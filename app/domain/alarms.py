"""What an operator should know and do, told once when it begins and once when it is over."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

_CHECK_SECONDS: Final = 15.0


class Alarm(msgspec.Struct, frozen=True):
    """`name` is a fixed word, the same for as long as the trouble is; `text` says what is wrong and what to do."""

    name: str
    text: str


type AlarmSource = Callable[[], Sequence[Alarm]]


class AlarmBoard:
    """All alarms there are now; changes go to the log."""

    def __init__(self, *sources: AlarmSource) -> None:
        self._sources = sources
        self._told: dict[str, Alarm] = {}
        self._log = structlog.get_logger("app.alarms")

    def current(self) -> tuple[Alarm, ...]:
        """Every alarm of this moment."""
        return tuple(alarm for source in self._sources for alarm in source())

    def tell(self) -> None:
        """Log what is new since the last time, and what is over."""
        now = {alarm.name: alarm for alarm in self.current()}
        for name, alarm in now.items():
            if name not in self._told:
                self._log.warning("alarm", alarm=name, text=alarm.text)
        for name in self._told.keys() - now.keys():
            self._log.info("alarm over", alarm=name)
        self._told = now

    async def run(self) -> None:
        """Look again and again."""
        while True:
            self.tell()
            await asyncio.sleep(_CHECK_SECONDS)
