"""The validator's stop-watch: the stages it came with, and the miner's two, each finished (protocol, section 3)."""

from datetime import datetime
from typing import Final

import msgspec

from app.domain.challenge import TimingData

INFERENCE_STAGE: Final = "miner_inference"
RESPONSE_STAGE: Final = "miner_response"


class Stage(msgspec.Struct, frozen=True):
    """A finished stage: unix seconds, ISO local time, milliseconds rounded to 2."""

    stage_name: str
    start_timestamp: float
    start_datetime: str
    end_timestamp: float
    end_datetime: str
    elapsed_ms: float


class TimingAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The timing data that goes back."""

    stages: list[msgspec.Raw | Stage]
    correlation_id: str | None = None
    request_start_timestamp: float | None = None
    request_start_datetime: str | None = None
    total_elapsed_ms: float | None = None


def stage(name: str, start: float, end: float) -> Stage:
    """A finished stage from `start` to `end`, both unix seconds."""
    return Stage(name, start, _local(start), end, _local(end), round((end - start) * 1000, 2))


def with_stages(timing: TimingData, *stages: Stage) -> TimingAnswer:
    """The validator's timing with ours added at its end; what it came with is kept as it was."""
    return TimingAnswer(
        stages=[*timing.stages, *stages],
        correlation_id=timing.correlation_id,
        request_start_timestamp=timing.request_start_timestamp,
        request_start_datetime=timing.request_start_datetime,
        total_elapsed_ms=timing.total_elapsed_ms,
    )


def _local(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp).isoformat()  # noqa: DTZ006 - the wire wants local time without an offset
