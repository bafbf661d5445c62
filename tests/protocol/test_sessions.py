"""The session table: names, time, bounds, and who goes for a newcomer (threats 2 and 5)."""

import os
import uuid

import psutil
import pytest
from cryptography.fernet import Fernet

from app.errors import HandshakeRefused, SessionRefused, Unavailable
from app.protocol.envelope import FernetKey
from app.protocol.hotkeys import Hotkey
from app.protocol.replay import NonceMemory
from app.protocol.sessions import FORGOTTEN_SECONDS, Session, SessionTable
from tests.protocol.support import HOME, START, Clock

OURS = Hotkey.from_seed(b"\x01" * 32).ss58
OTHERS = Hotkey.from_seed(b"\x02" * 32).ss58
RELAY = "198.51.100.7"
MB = 1_000_000


@pytest.fixture
def table(clock: Clock) -> SessionTable:
    return SessionTable(clock)


def fresh_key() -> FernetKey:
    return FernetKey(Fernet.generate_key(), os.urandom)


def add(table: SessionTable, source: str = HOME, hotkey: str = OURS, *, home: bool = False) -> Session:
    return table.add(str(uuid.uuid4()), hotkey, fresh_key(), source, home=home)


def add_spaced(table: SessionTable, clock: Clock, count: int, source: str = HOME) -> list[Session]:
    made: list[Session] = []
    for _ in range(count):
        clock.now += 1
        made.append(add(table, source))
    return made


def test_a_session_is_its_hotkeys_alone(table: SessionTable) -> None:
    session = add(table)
    assert table.get(session.uuid, OURS) is session
    for name, hotkey in ((session.uuid, OTHERS), (str(uuid.uuid4()), OURS), ("", "")):
        with pytest.raises(SessionRefused) as refused:
            table.get(name, hotkey)
        assert refused.value.reason == "unknown"


def test_a_session_lives_for_its_ttl(table: SessionTable, clock: Clock) -> None:
    session = add(table)
    clock.now = START + 3599.9
    assert table.get(session.uuid, OURS) is session
    clock.now = START + 3600
    with pytest.raises(SessionRefused) as refused:
        table.get(session.uuid, OURS)
    assert refused.value.reason == "expired"
    assert session.seal(b"late answer", clock())
    add(table)
    assert len(table) == 1
    assert table.counts.expired == 1


def test_a_taken_name_is_refused_to_everyone_until_it_expires(table: SessionTable, clock: Clock) -> None:
    session = add(table)
    for hotkey in (OURS, OTHERS):
        with pytest.raises(HandshakeRefused):
            table.add(session.uuid, hotkey, fresh_key(), HOME)
    assert table.get(session.uuid, OURS) is session
    clock.now += 3600
    assert table.add(session.uuid, OTHERS, fresh_key(), HOME).hotkey == OTHERS


def test_the_key_is_in_no_text(table: SessionTable) -> None:
    text = Fernet.generate_key()
    key = FernetKey(text, os.urandom)
    session = table.add(str(uuid.uuid4()), OURS, key, HOME)
    for shown in (repr(session), str(session), repr(key), repr(table)):
        assert text.decode() not in shown
    assert session.uuid in repr(session)


def test_the_longest_idle_of_the_same_source_goes(table: SessionTable, clock: Clock) -> None:
    made = add_spaced(table, clock, 8)
    clock.now += 1
    made[0].seal(b"", clock())
    newest = add(table)
    assert set(table.of(OURS)) == {*made, newest} - {made[1]}
    assert table.counts.evicted == 1


def test_requests_in_flight_keep_their_session(table: SessionTable, clock: Clock) -> None:
    made = add_spaced(table, clock, 8)
    with made[0], made[1]:
        assert made[0].in_flight == 1
        add(table)
        assert made[0] in table.of(OURS)
        assert made[1] in table.of(OURS)
        assert made[2] not in table.of(OURS)
    assert made[0].in_flight == 0
    for session in table.of(OURS):
        session.begin()
    with pytest.raises(Unavailable) as full:
        add(table)
    assert full.value.reason == "sessions_full"
    table.of(OURS)[3].end()
    add(table)
    assert len(table.of(OURS)) == 8


def test_a_request_that_fails_is_counted_out(table: SessionTable) -> None:
    session = add(table)
    with pytest.raises(ZeroDivisionError), session:
        raise ZeroDivisionError
    assert session.in_flight == 0


def test_threat_02_a_relay_never_ends_the_last_genuine_session(table: SessionTable, clock: Clock) -> None:
    genuine = add(table, HOME)
    relayed: list[Session] = []
    for number in range(500):
        clock.now += 1
        relayed.append(add(table, RELAY))
        relayed[-1].seal(b"in use", clock())
        assert table.get(genuine.uuid, OURS) is genuine, number
    assert len(table.of(OURS)) == 8


def test_threat_02_a_relay_of_many_addresses_is_refused_in_the_end(table: SessionTable, clock: Clock) -> None:
    genuine = add(table, HOME)
    refused = 0
    for number in range(100):
        clock.now += 1
        try:
            add(table, f"198.51.100.{number}")
        except Unavailable:
            refused += 1
    assert table.get(genuine.uuid, OURS) is genuine
    assert refused == 93
    assert table.counts.refused == 93


def test_threat_02_a_new_source_takes_only_one_place_of_the_genuine_one(table: SessionTable, clock: Clock) -> None:
    genuine = add_spaced(table, clock, 8)
    for _ in range(50):
        clock.now += 1
        add(table, RELAY)
    assert [session for session in table.of(OURS) if session.source == HOME] == genuine[1:]


def test_threat_02_a_busy_relay_takes_no_place_of_the_genuine_one(table: SessionTable, clock: Clock) -> None:
    genuine = add_spaced(table, clock, 4)
    for session in add_spaced(table, clock, 4, RELAY):
        session.begin()
    with pytest.raises(Unavailable):
        add(table, RELAY)
    assert table.of(OURS)[:4] == tuple(genuine)


def test_threat_02_the_validators_own_address_always_gets_in(table: SessionTable, clock: Clock) -> None:
    for number in range(8):
        clock.now += 1
        add(table, f"198.51.100.{number}")
    genuine = add(table, HOME, home=True)
    for number in range(100):
        clock.now += 1
        with pytest.raises(Unavailable):
            add(table, f"203.0.113.{number}")
        assert table.get(genuine.uuid, OURS) is genuine


def test_threat_02_sessions_of_the_own_address_are_never_a_strangers(table: SessionTable, clock: Clock) -> None:
    for _ in range(8):
        clock.now += 1
        add(table, HOME, home=True)
    with pytest.raises(Unavailable):
        add(table, RELAY)
    add(table, HOME, home=True)
    assert len(table.of(OURS)) == 8


def test_threat_05_a_hundred_thousand_sessions_of_one_hotkey(table: SessionTable, clock: Clock) -> None:
    other = add(table, hotkey=OTHERS)
    nonces, key = NonceMemory(), fresh_key()
    before = psutil.Process().memory_info().rss
    for number in range(100_000):
        clock.now += 0.01
        nonce = str(number)
        nonces.check(OURS, nonce, clock.now, clock.now)
        nonces.add(OURS, nonce, clock.now)
        table.add(f"00000000-0000-4000-8000-{number:012d}", OURS, key, HOME)
        assert len(table) <= 9
    assert psutil.Process().memory_info().rss - before < 5 * MB
    assert len(table.of(OURS)) == 8
    assert table.get(other.uuid, OTHERS) is other
    assert table.counts.added == 100_001
    assert table.counts.evicted == 100_000 - 8


def test_threat_05_a_full_table_ends_nobody_elses_session(clock: Clock) -> None:
    table = SessionTable(clock, total=6)
    theirs = [add(table, hotkey=OTHERS) for _ in range(5)]
    mine = add(table)
    with pytest.raises(Unavailable):
        add(table, hotkey=Hotkey.from_seed(b"\x03" * 32).ss58)
    newer = add(table)
    assert table.of(OURS) == (newer,)
    assert mine not in table.of(OURS)
    assert table.of(OTHERS) == tuple(theirs)


def test_threat_05_a_full_table_drops_what_has_expired(clock: Clock) -> None:
    table = SessionTable(clock, ttl=10, total=3)
    for _ in range(3):
        add(table, hotkey=OTHERS)
        clock.now += 3
    with pytest.raises(Unavailable):
        add(table)
    clock.now += 1
    add(table)
    assert len(table) == 3
    assert len(table.of(OTHERS)) == 2


def test_threat_02_relays_that_nobody_uses_can_not_shut_the_validator_out(table: SessionTable, clock: Clock) -> None:
    relayed = [add(table, f"198.51.100.{number}") for number in range(8)]
    clock.now += FORGOTTEN_SECONDS - 1
    with pytest.raises(Unavailable):
        add(table, HOME)
    clock.now += 1
    with relayed[0]:
        genuine = add(table, HOME)
    assert table.get(relayed[0].uuid, OURS) is relayed[0]  # in use
    assert table.get(genuine.uuid, OURS) is genuine
    assert len(table.of(OURS)) == 8


def test_threat_05_throw_away_hotkeys_can_not_fill_the_table_for_good(clock: Clock) -> None:
    table = SessionTable(clock, total=6)
    for number in range(6):
        add(table, hotkey=Hotkey.from_seed(bytes([100 + number]) * 32).ss58)
    with pytest.raises(Unavailable):
        add(table, hotkey=OTHERS)
    clock.now += FORGOTTEN_SECONDS
    add(table, hotkey=OTHERS)
    assert len(table) == 6
