"""Token buckets (threats 7 and 22)."""

import pytest

from app.domain.access import Access, RouteLimit
from app.domain.merged_list import MergedAllowList
from app.domain.rate_limit import RateLimiter
from app.errors import RateLimited
from tests.domain.hand_clock import HandClock

LIMITS = {"challenge": RouteLimit(120, 30)}
EVERYBODY = MergedAllowList(HandClock(), everybody=True)


def _passed(limiter: RateLimiter, key: str, per_minute: int, tries: int) -> int:
    passed = 0
    for _ in range(tries):
        try:
            limiter.spend("route", key, per_minute)
        except RateLimited:
            continue
        passed += 1
    return passed


def test_a_burst_of_a_minute_then_the_rate() -> None:
    clock = HandClock()
    limiter = RateLimiter(clock, most_keys=10)
    assert _passed(limiter, "a", 30, 100) == 30
    clock.now += 1.9
    assert _passed(limiter, "a", 30, 100) == 0
    clock.now += 0.2
    assert _passed(limiter, "a", 30, 100) == 1
    clock.now += 3600
    assert _passed(limiter, "a", 30, 100) == 30


def test_retry_after_is_when_the_next_one_passes() -> None:
    clock = HandClock()
    limiter = RateLimiter(clock, most_keys=10)
    _passed(limiter, "a", 6, 6)
    with pytest.raises(RateLimited) as refused:
        limiter.spend("route", "a", 6)
    assert refused.value.retry_after == 10
    clock.now += 10
    limiter.spend("route", "a", 6)


def test_the_number_of_buckets_is_bounded() -> None:
    limiter = RateLimiter(HandClock(), most_keys=100)
    for number in range(10_000):
        limiter.spend("route", f"source {number}", 30)
    assert len(limiter) == 100


def test_sources_do_not_share() -> None:
    limiter = RateLimiter(HandClock(), most_keys=10)
    assert _passed(limiter, "a", 30, 100) == 30
    assert _passed(limiter, "b", 30, 100) == 30


def test_threat_07_naming_a_hotkey_spends_nothing_of_it() -> None:
    access = Access(
        MergedAllowList(HandClock(), everybody=True), HandClock(), LIMITS, hotkey_per_minute=60, enabled=True
    )
    for number in range(10_000):
        address = f"198.51.100.{number % 100}"
        try:
            access.admit_source("challenge", address)
        except RateLimited:
            continue
        assert access.allows("5Honest")  # where a forged request ends: before anything of the hotkey's is spent
    for _ in range(60):
        access.spend_hotkey("5Honest")
    with pytest.raises(RateLimited):
        access.spend_hotkey("5Honest")


def test_threat_02_each_session_has_a_budget_of_its_own() -> None:
    access = Access(
        MergedAllowList(HandClock(), everybody=True), HandClock(), LIMITS, hotkey_per_minute=60, enabled=True
    )
    for _ in range(60):
        access.spend_session("relayed")
    with pytest.raises(RateLimited):
        access.spend_session("relayed")
    access.spend_session("genuine")


def test_limits_can_be_off() -> None:
    access = Access(
        MergedAllowList(HandClock(), everybody=True), HandClock(), LIMITS, hotkey_per_minute=1, enabled=False
    )
    for _ in range(1000):
        access.admit_source("challenge", "198.51.100.1")
        access.spend_hotkey("5Honest")


def test_threat_16_an_empty_list_allows_nobody_and_says_why() -> None:
    empty = MergedAllowList(HandClock())
    assert not empty.allows("5Anyone")
    assert "VALIDATOR_HOTKEYS" in (empty.problem() or "")
    named = MergedAllowList(HandClock(), hotkeys=["5Named"])
    assert named.allows("5Named")
    assert not named.allows("5Anyone")
    assert named.problem() is None


def test_the_miners_own_hotkey_may_try_the_whole_way() -> None:
    empty = MergedAllowList(HandClock())
    access = Access(empty, HandClock(), LIMITS, hotkey_per_minute=60, enabled=True, own_hotkey="5Own")
    assert access.allows("5Own")
    assert not access.allows("5Other")
    assert access.problem() is not None, "to be able to try oneself makes nobody ready"
