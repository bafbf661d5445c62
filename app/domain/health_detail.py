"""All that the miner knows about its own state, in one piece for the operator."""

import msgspec

from app.domain.backend import BackendStatus


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
