"""The whole miner at a glance: what the dashboard, `top` and the alerts show, gathered from what its parts know."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from app.clock import Clock
from app.domain.alarms import Alarm
from app.domain.challenge_log import ChallengeLog, ChallengeRecord
from app.domain.gpu_figures import GpuReading
from app.domain.health_detail import HealthDetail
from app.domain.recent import CellReport, HourReport, Recent, Tally
from app.domain.validator_report import ValidatorReport, ValidatorsReport
from app.metrics import Metrics

State = Literal["ready", "degraded", "draining", "down"]

_WATCH_SECONDS: Final = 10.0
_COMMAND: Final = re.compile(r"`((?:loosh-miner|btcli|\./justw)[^`]*)`")
_DOCTOR: Final = "loosh-miner doctor"
_BAD_SHARE: Final = 0.1
_FEW: Final = 5


class Banner(msgspec.Struct, frozen=True):
    """The state in a word, why, and what to type about it; the last two are empty when there is nothing to do."""

    state: State
    reason: str = ""
    command: str = ""


class ValidatorLine(msgspec.Struct, frozen=True):
    """A validator, and how its challenges of the last 24 hours ended."""

    validator: ValidatorReport
    tally: Tally


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/overview` on the admin listener; times in seconds, `at` and the cells' in unix time."""

    at: float
    banner: Banner
    health: HealthDetail
    netuid: int
    network: str
    cells: tuple[CellReport, ...]
    hour: HourReport
    tokens_per_second: float
    last: tuple[ChallengeRecord, ...]
    validators: tuple[ValidatorLine, ...]
    security: Mapping[str, int]
    """Counters since the start, by what they count; the refusals by reason."""
    log_lost: int
    """Challenges that the log could not keep."""
    gpus: GpuReading | None


class Overviews:
    """Makes overviews; each costs well under a millisecond."""

    def __init__(
        self,
        *,
        detail: Callable[[], HealthDetail],
        validators: Callable[[], ValidatorsReport],
        challenges: ChallengeLog,
        recent: Recent,
        metrics: Metrics,
        tokens_per_second: Callable[[], float],
        gpus: Callable[[], GpuReading | None],
        subnet: tuple[int, str],
        clock: Clock,
    ) -> None:
        self._detail = detail
        self._validators = validators
        self._challenges = challenges
        self._recent = recent
        self._metrics = metrics
        self._tokens_per_second = tokens_per_second
        self._gpus = gpus
        self._subnet = subnet
        self._clock = clock

    async def run(self) -> None:
        """Note again and again whether the miner is ready: a bad hour shows without any challenge, too."""
        while True:
            self._recent.watch(ready=self._detail().ready)
            await asyncio.sleep(_WATCH_SECONDS)

    def now(self) -> Overview:
        """All of it, as it is now."""
        self._challenges.look()
        health, hour, recent = self._detail(), self._recent.hour(), self._recent
        return Overview(
            at=self._clock.wall(),
            banner=banner(health, hour),
            health=health,
            netuid=self._subnet[0],
            network=self._subnet[1],
            cells=recent.cells(),
            hour=hour,
            tokens_per_second=round(self._tokens_per_second(), 1),
            last=recent.last(),
            validators=tuple(ValidatorLine(one, recent.of(one.hotkey)) for one in self._validators().validators),
            security=self._metrics.security(),
            log_lost=self._challenges.lost,
            gpus=self._gpus(),
        )


def banner(health: HealthDetail, hour: HourReport) -> Banner:
    """The state that an operator should see, with its remedy."""
    if health.admission.draining:
        return Banner("draining", "new challenges are refused; those in flight are finished")
    if not health.ready:
        command = "" if health.cause == "loading" else _command(health.reason)
        return Banner("down", health.reason, command)
    if health.alarms:
        worst = health.alarms[0]
        return Banner("degraded", worst.text, _command(worst.text))
    bad = sum(hour.outcomes.get(outcome, 0) for outcome in ("late", "refused", "failed"))
    all_ended = sum(hour.outcomes.values())
    if bad >= _FEW and bad > _BAD_SHARE * all_ended:
        reason = f"{bad} of {all_ended} challenges of the last hour were refused, failed or late"
        return Banner("degraded", reason, "loosh-miner history --since 1h")
    return Banner("ready")


def _command(text: str) -> str:
    """The command that a text names itself; the doctor, who knows more, where it names none."""
    found = _COMMAND.search(text)
    return found[1] if found else _DOCTOR


def more_alarms(health: HealthDetail) -> Sequence[Alarm]:
    """The alarms that the banner does not already tell."""
    return health.alarms[1:] if health.ready and not health.admission.draining else health.alarms
