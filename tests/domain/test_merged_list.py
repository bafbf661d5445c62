"""Who may be served: what lists are put together, for how long each counts, and who loses access (threat 16)."""

from collections.abc import Collection

import pytest

from app.domain.access import Access, RouteLimit
from app.domain.allow_list import ListSource
from app.domain.merged_list import MergedAllowList
from app.domain.source_list import VALID_SECONDS, ListedValidator, SourceList
from app.errors import NotAllowed, RateLimited
from tests.domain.hand_clock import HandClock

SOURCES: tuple[ListSource, ...] = ("metagraph", "challenge-api")
LIMITS = {"challenge": RouteLimit(120, 30)}


def listed(source: ListSource, now: float, *validators: ListedValidator) -> SourceList:
    return SourceList(source=source, origin="here", fetched=now, validators=validators)


def one(hotkey: str, *addresses: str, stake: float | None = None) -> ListedValidator:
    return ListedValidator(hotkey=hotkey, stake=stake, addresses=addresses)


def test_threat_16_lists_are_put_together() -> None:
    clock = HandClock()
    lists = MergedAllowList(clock, sources=SOURCES, hotkeys=["5Own"])
    lists.replace(listed("challenge-api", clock.now, one("5A", "198.51.100.2"), one("5C", "2001:db8::1")))
    lists.replace(listed("metagraph", clock.now, one("5A", "198.51.100.1", stake=5.0), one("5B", stake=9.0)))
    assert [(v.hotkey, v.sources, v.stake, v.addresses) for v in lists.validators()] == [
        ("5B", ("metagraph",), 9.0, ()),
        ("5A", ("metagraph", "challenge-api"), 5.0, ("198.51.100.1", "198.51.100.2")),
        ("5C", ("challenge-api",), None, ("2001:db8::1",)),
        ("5Own", ("settings",), None, ()),
    ]
    assert all(lists.allows(hotkey) for hotkey in ("5A", "5B", "5C", "5Own"))
    assert not lists.allows("5D")


def test_addresses_are_compared_in_one_spelling() -> None:
    clock = HandClock()
    lists = MergedAllowList(clock, sources=SOURCES)
    odd = one("5A", "2001:DB8:0::1", "0.0.0.0", "::", "224.0.0.1", "no address", "198.51.100.1")  # noqa: S104
    lists.replace(listed("metagraph", clock.now, odd, one("5B", "198.51.100.2")))
    for address in ("2001:db8::1", "2001:0db8::0001", "198.51.100.1", "::ffff:198.51.100.1"):
        assert lists.knows_source(address), address
        assert lists.is_home("5A", address), address
        assert not lists.is_home("5B", address), address
    for address in ("0.0.0.0", "::", "224.0.0.1", "no address", "", "2001:db8::2"):  # noqa: S104
        assert not lists.knows_source(address), address
    assert lists.has_home("5B")
    assert not lists.has_home("5C")


def test_threat_16_a_list_counts_for_24_hours_and_not_a_second_more() -> None:
    clock = HandClock()
    lists = MergedAllowList(clock, sources=SOURCES)
    lists.replace(listed("metagraph", clock.now, one("5A", "198.51.100.1")))
    lists.failed("challenge-api", "unreachable")
    clock.now += 3600
    lists.replace(listed("challenge-api", clock.now, one("5B")))
    lists.failed("metagraph", "timeout")
    clock.now += VALID_SECONDS - 3600 - 1
    assert lists.allows("5A")
    clock.now += 1
    assert not lists.allows("5A")
    assert not lists.knows_source("198.51.100.1")
    assert lists.allows("5B")
    assert lists.problem() is None
    clock.now += 3600
    assert not lists.allows("5B")
    problem = lists.problem() or ""
    assert "over 24 h old, timeout" in problem
    assert "VALIDATOR_HOTKEYS" in problem


def test_threat_16_a_list_from_the_future_does_not_count() -> None:
    clock = HandClock(1_000_000.0)
    lists = MergedAllowList(clock, sources=SOURCES)
    lists.replace(listed("metagraph", clock.now + 3600, one("5A")))
    assert not lists.allows("5A")
    lists.replace(listed("metagraph", clock.now + 5, one("5A")))
    assert lists.allows("5A")


def test_threat_16_nobody_is_served_before_the_first_list_and_the_reason_grows_precise() -> None:
    lists = MergedAllowList(HandClock(), sources=SOURCES)
    assert not lists.allows("5A")
    assert "being read" in (lists.problem() or "")
    lists.failed("metagraph", "unreachable")
    assert "being read" in (lists.problem() or "")
    lists.failed("challenge-api", "forbidden")
    assert "the metagraph: unreachable; the Challenge API: forbidden" in (lists.problem() or "")
    lists.replace(listed("metagraph", 1000.0))
    assert "the metagraph: names nobody" in (lists.problem() or "")


def test_the_least_stake_is_asked_of_the_metagraph_only() -> None:
    clock = HandClock()
    lists = MergedAllowList(clock, sources=SOURCES, least_stake=1000.0)
    lists.replace(listed("metagraph", clock.now, one("5Rich", stake=1000.0), one("5Poor", stake=999.9), one("5None")))
    lists.replace(listed("challenge-api", clock.now, one("5Api")))
    assert sorted(validator.hotkey for validator in lists.validators()) == ["5Api", "5Rich"]


def test_everybody_may_be_served_and_addresses_are_known_all_the_same() -> None:
    clock = HandClock()
    lists = MergedAllowList(clock, sources=SOURCES, everybody=True)
    assert lists.allows("5Anyone")
    assert lists.problem() is None
    lists.replace(listed("metagraph", clock.now, one("5A", "198.51.100.1")))
    assert lists.knows_source("198.51.100.1")


def test_who_leaves_the_lists_is_told_once() -> None:
    clock = HandClock()
    gone: list[str] = []

    def removed(hotkeys: Collection[str]) -> None:
        gone.extend(sorted(hotkeys))

    lists = MergedAllowList(clock, sources=SOURCES, hotkeys=["5Own"], removed=removed)
    lists.replace(listed("metagraph", clock.now, one("5A"), one("5B"), one("5Own")))
    lists.replace(listed("challenge-api", clock.now, one("5B")))
    assert gone == []
    lists.replace(listed("metagraph", clock.now, one("5C")))
    assert gone == ["5A"], "5B is on the other list, 5Own in the settings"
    clock.now += VALID_SECONDS
    assert not lists.allows("5C")
    assert gone == ["5A", "5B", "5C"]


def test_threat_02_other_addresses_are_refused_where_that_is_asked_for() -> None:
    clock = HandClock()
    lists = MergedAllowList(clock, sources=SOURCES)
    lists.replace(listed("metagraph", clock.now, one("5A", "198.51.100.1"), one("5B")))
    lax = Access(lists, clock, LIMITS, hotkey_per_minute=60, enabled=True)
    strict = Access(lists, clock, LIMITS, hotkey_per_minute=60, enabled=True, published_only=True)
    for access in (lax, strict):
        assert access.allows_handshake("5A", "198.51.100.1")
        assert access.allows_handshake("5B", "203.0.113.9"), "there is nothing to compare with"
        assert not access.allows_handshake("5C", "198.51.100.1")
        assert access.is_elsewhere("5A", "203.0.113.9")
        assert not access.is_elsewhere("5B", "203.0.113.9")
    assert lax.allows_handshake("5A", "203.0.113.9")
    with pytest.raises(NotAllowed, match="published addresses") as refused:
        strict.allows_handshake("5A", "203.0.113.9")
    assert refused.value.reason == "address"


def _passes(access: Access, address: str) -> bool:
    try:
        access.admit_source("challenge", address)
    except RateLimited:
        return False
    return True


def test_threat_07_known_and_proven_sources_do_not_share_the_strangers_budget() -> None:
    clock = HandClock()
    lists = MergedAllowList(clock, sources=SOURCES)
    lists.replace(listed("metagraph", clock.now, one("5A", "198.51.100.1")))
    access = Access(lists, clock, LIMITS, hotkey_per_minute=60, enabled=True, strangers_per_minute=300)
    access.shook_hands("5V0", "203.0.113.1")
    passed = sum(_passes(access, f"192.0.2.{number % 200}") for number in range(4000))
    assert passed == 300
    assert not _passes(access, "203.0.113.2")
    assert sum(_passes(access, "198.51.100.1") for _ in range(200)) == 120
    assert sum(_passes(access, "203.0.113.1") for _ in range(200)) == 30
    for number in range(1024):
        access.shook_hands(f"5V{number + 1}", f"10.0.{number // 250}.{number % 250}")
    clock.now += 60
    assert sum(_passes(access, f"192.0.2.{number % 200}") for number in range(4000)) == 300
    assert not _passes(access, "203.0.113.1"), "the oldest is forgotten: it is a stranger again"
