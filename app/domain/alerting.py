"""Alerts: what an operator wants to be woken for, each told once when it has lasted, and once when it is over."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, Protocol

import msgspec
import structlog

from app.clock import Clock
from app.domain.alarms import Alarm
from app.domain.health_detail import HealthDetail

_LOOK_SECONDS: Final = 10.0
_LASTS_SECONDS: Final = 60.0
"""So long a trouble must last before it is told, and be gone before it is over: a restart is no alert."""
_RETRY_SECONDS: Final = (2.0, 10.0, 30.0, 60.0)
_MINUTE: Final = 60.0
_SILENT_MINUTES: Final = (150, 120, 60)
_CHAIN: Final = frozenset({"deregistered", "axon_differs", "axon_absent"})
_LEAST_FREE: Final = 1_000_000_000
_GB: Final = 1_000_000_000

type Looking = Callable[[], Awaitable[Sequence[Alarm]]]
Event = Literal["begun", "over", "test"]


class Alert(msgspec.Struct, frozen=True):
    """What is sent, as JSON. `at` is unix seconds; `name` a fixed word; `hotkey` the miner's."""

    event: Event
    name: str
    text: str
    hotkey: str
    at: float


class AlertSender(Protocol):
    """Brings alerts to the operator."""

    async def send(self, alert: Alert) -> str | None:
        """Send once; None when it was taken, else why not."""
        ...


def troubles(health: HealthDetail, free_bytes: int | None) -> Sequence[Alarm]:
    """Find what is worth an alert; `free_bytes`: room on STATE_DIR's disk, None when that is not known."""
    found: list[Alarm] = []
    if not health.ready and health.cause == "backend":
        found.append(Alarm("engine_down", health.reason))
    elif not health.ready and health.cause != "draining":
        found.append(Alarm("not_ready", health.reason))
    minutes = health.last_answer.waited_seconds / _MINUTE
    silent = next((step for step in _SILENT_MINUTES if minutes >= step), None)
    if silent is not None and not health.development:
        found.append(
            Alarm(f"no_answer_{silent}", f"no challenge was answered for {silent} minutes: `loosh-miner doctor`")
        )
    for alarm in health.alarms:
        if alarm.name in _CHAIN:
            found.append(alarm)
        elif alarm.name == "state":
            found.append(Alarm("disk", alarm.text))
    if free_bytes is not None and free_bytes < _LEAST_FREE and not any(one.name == "disk" for one in found):
        found.append(Alarm("disk", f"{free_bytes / _GB:.1f} GB are left on STATE_DIR's disk: make room"))
    return found


class Alerting:
    """Looks again and again, and sends what has begun and what is over; one alert after another, each retried."""

    def __init__(self, look: Looking, sender: AlertSender, hotkey: str, clock: Clock) -> None:
        self._look = look
        self._sender = sender
        self._hotkey = hotkey
        self._clock = clock
        self._since: dict[str, float] = {}
        self._missing: dict[str, float] = {}
        self._told: dict[str, Alarm] = {}
        self._log = structlog.get_logger("app.alerts")

    async def run(self) -> None:
        """Watch for as long as the miner runs."""
        while True:
            for alert in self.changes(await self._look()):
                await self._deliver(alert)
            await asyncio.sleep(_LOOK_SECONDS)

    def changes(self, now: Sequence[Alarm]) -> Sequence[Alert]:
        """Compare with what was told: what has lasted begins, what is gone for as long is over."""
        clock, alerts = self._clock.monotonic(), list[Alert]()
        present = {alarm.name: alarm for alarm in now}
        self._since = {name: self._since.get(name, clock) for name in present}
        for name, since in self._since.items():
            if name not in self._told and clock - since >= _LASTS_SECONDS:
                self._told[name] = present[name]
                alerts.append(self._alert("begun", present[name]))
        self._missing = {name: self._missing.get(name, clock) for name in self._told if name not in present}
        for name, since in self._missing.items():
            if clock - since >= _LASTS_SECONDS:
                alerts.append(self._alert("over", self._told.pop(name)))
        return alerts

    async def _deliver(self, alert: Alert) -> None:
        problem = None
        for pause in (*_RETRY_SECONDS, None):
            problem = await self._sender.send(alert)
            if problem is None:
                self._log.info("alert sent", alert=alert.name, about=alert.event)
                return
            if pause is not None:
                await asyncio.sleep(pause)
        self._log.warning("an alert could not be sent", alert=alert.name, about=alert.event, problem=problem)

    def _alert(self, event: Event, alarm: Alarm) -> Alert:
        return Alert(event, alarm.name, alarm.text, self._hotkey, self._clock.wall())
