"""Alerts: debounced both ways, told once, and made of what wakes an operator."""

import msgspec
import pytest

from app.domain.alarms import Alarm
from app.domain.alerting import Alert, Alerting, troubles
from app.domain.backend import BackendStatus
from app.domain.health_detail import AdmissionState, HealthDetail
from app.domain.last_answer import LastAnswerReport
from tests.domain.hand_clock import HandClock

WELL = HealthDetail(
    ready=True,
    cause="",
    reason="",
    version="1",
    hotkey="5A",
    development=False,
    uptime_seconds=1.0,
    backend=BackendStatus(ready=True),
    probe_seconds=0.1,
    admission=AdmissionState(0, 1, 0, 1, draining=False),
    sessions=0,
    warnings=(),
    validators=1,
    allow_list=(),
    chain=None,
    last_answer=LastAnswerReport(1.0, 1.0),
    alarms=(),
)
DOWN = [Alarm("engine_down", "it is down")]


async def nothing() -> list[Alarm]:
    return []


class Nobody:
    async def send(self, alert: Alert) -> str | None:
        return None if alert.name else "no name"


def told(alerting: Alerting, now: list[Alarm]) -> list[tuple[str, str]]:
    return [(alert.event, alert.name) for alert in alerting.changes(now)]


def test_a_trouble_is_told_once_when_it_has_lasted_and_once_when_it_is_over() -> None:
    clock = HandClock()
    alerting = Alerting(nothing, Nobody(), "5A", clock)
    assert told(alerting, DOWN) == []
    clock.now += 59
    assert told(alerting, DOWN) == []
    clock.now += 1
    assert told(alerting, DOWN) == [("begun", "engine_down")]
    clock.now += 3600
    assert told(alerting, DOWN) == []
    assert told(alerting, []) == []
    clock.now += 60
    assert told(alerting, []) == [("over", "engine_down")]
    assert told(alerting, []) == []


def test_what_flaps_is_one_alert() -> None:
    clock = HandClock()
    alerting = Alerting(nothing, Nobody(), "5A", clock)
    said: list[tuple[str, str]] = []
    for turn in range(40):
        said += told(alerting, DOWN if turn % 2 else [])
        clock.now += 30
    assert said == []
    for _ in range(4):
        said += told(alerting, DOWN)
        clock.now += 30
    for turn in range(40):
        said += told(alerting, DOWN if turn % 2 else [])
        clock.now += 30
    assert said == [("begun", "engine_down")]


@pytest.mark.parametrize(
    ("changed", "free", "names"),
    [
        ({}, None, []),
        ({"ready": False, "cause": "backend"}, None, ["engine_down"]),
        ({"ready": False, "cause": "allow_list"}, None, ["not_ready"]),
        ({"ready": False, "cause": "draining"}, None, []),
        ({"last_answer": LastAnswerReport(None, 59 * 60.0)}, None, []),
        ({"last_answer": LastAnswerReport(None, 60 * 60.0)}, None, ["no_answer_60"]),
        ({"last_answer": LastAnswerReport(1.0, 121 * 60.0)}, None, ["no_answer_120"]),
        ({"last_answer": LastAnswerReport(1.0, 151 * 60.0)}, None, ["no_answer_150"]),
        ({"last_answer": LastAnswerReport(1.0, 151 * 60.0), "development": True}, None, []),
        ({"alarms": (Alarm("deregistered", "x"), Alarm("head_stalled", "y"))}, None, ["deregistered"]),
        ({"alarms": (Alarm("axon_differs", "x"), Alarm("state", "y"))}, 5, ["axon_differs", "disk"]),
        ({}, 999_999_999, ["disk"]),
        ({}, 1_000_000_000, []),
    ],
)
def test_what_wakes_an_operator(changed: dict[str, object], free: int | None, names: list[str]) -> None:
    assert [alarm.name for alarm in troubles(msgspec.structs.replace(WELL, **changed), free)] == names
