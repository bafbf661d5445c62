"""The sources of validators that proved themselves (threat 7)."""

import random

from app.domain.seasoned import SeasonedSources


def test_threat_07_a_validator_from_everywhere_pushes_out_nobody_but_itself() -> None:
    seasoned = SeasonedSources()
    seasoned.add("honest", "198.51.100.1")
    for number in range(10_000):
        seasoned.add("bad", f"2001:db8:{number:x}::/64")
    assert "198.51.100.1" in seasoned
    assert len(seasoned) == 1 + 8
    assert "2001:db8:270f::/64" in seasoned, "its latest"
    assert "2001:db8:0::/64" not in seasoned


def test_a_source_stays_as_long_as_one_hotkey_has_it() -> None:
    seasoned = SeasonedSources()
    seasoned.add("a", "shared")
    seasoned.add("b", "shared")
    for number in range(8):
        seasoned.add("a", f"{number}")
    assert "shared" in seasoned
    for number in range(8):
        seasoned.add("b", f"{number}")
    assert "shared" not in seasoned


def test_what_is_seen_again_is_the_latest() -> None:
    seasoned = SeasonedSources()
    for source in (*"12345678", "1", "9"):
        seasoned.add("a", source)
    assert "1" in seasoned
    assert "2" not in seasoned


def test_it_is_bounded_whatever_comes() -> None:
    seasoned, chance = SeasonedSources(), random.Random(1)
    for _ in range(30_000):
        seasoned.add(f"hotkey {chance.randrange(3000)}", f"source {chance.randrange(20_000)}")
    assert len(seasoned) <= 1024 * 8
    fresh = SeasonedSources()
    for number in range(1025):
        fresh.add(f"hotkey {number}", f"source {number}")
    assert "source 0" not in fresh
    assert len(fresh) == 1024
