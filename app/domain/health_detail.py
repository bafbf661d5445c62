"""All that the miner knows about its own state, in one piece for the operator."""

import msgspec

from app.domain.alarms import Alarm
from app.domain.backend import BackendStatus
from app.domain.chain_watch import ChainReport
from app.domain.last_answer import LastAnswerReport
from app.domain.list_refresh import RefreshReport


class AdmissionState(msgspec.Struct, frozen=True):
    """How busy the miner is."""

    running: int
    slots: int
    queued: int
    queue_limit: int
    draining: bool


class HealthDetail(msgspec.Struct, frozen=True):
    """The answer of `/health` on the admin listener. Times are in seconds."""

    ready: bool
    cause: str
    reason: str
    version: str
    hotkey: str
    development: bool
    uptime_seconds: float
    backend: BackendStatus
    probe_seconds: float | None
    admission: AdmissionState
    sessions: int
    warnings: tuple[str, ...]
    validators: int
    """How many may be served by name."""
    allow_list: tuple[RefreshReport, ...]
    chain: ChainReport | None
    """None in development mode."""
    last_answer: LastAnswerReport
    alarms: tuple[Alarm, ...]
