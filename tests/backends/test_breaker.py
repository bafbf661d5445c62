"""The circuit breaker's three states, on a clock moved by hand."""

import pytest

from app.backends.breaker import Breaker
from tests.domain.hand_clock import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def _breaker(clock: HandClock) -> Breaker:
    return Breaker(clock, failures=3, rest=2)


def test_failures_in_a_row_open_it(clock: HandClock) -> None:
    breaker = _breaker(clock)
    breaker.failed()
    breaker.failed()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"


def test_a_success_between_failures_keeps_it_closed(clock: HandClock) -> None:
    breaker = _breaker(clock)
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"


def test_one_failed_trial_opens_it(clock: HandClock) -> None:
    breaker = _breaker(clock)
    breaker.failed(trial=True)
    assert breaker.state == "open"


def test_after_its_rest_one_trial_decides(clock: HandClock) -> None:
    breaker = _breaker(clock)
    breaker.failed(trial=True)
    clock.now += 1.9
    assert breaker.state == "open"
    clock.now += 0.1
    assert breaker.state == "half-open"
    breaker.failed(trial=True)
    assert breaker.state == "open", "its rest begins anew"
    clock.now += 2
    breaker.succeeded()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "closed", "the failures before the success are forgotten"
