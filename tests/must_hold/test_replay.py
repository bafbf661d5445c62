"""Recorded traffic sent again gains nothing (threats 1, 3, 5, 6)."""

import asyncio
import time

import pytest

from tests.conftest import StartMiner
from tests.miner.http import Connection
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import CHALLENGE, KEY_EXCHANGE, PUBLIC_KEY, Hotkey, Session, Validator, challenge
from tests.must_hold.conftest import NewValidator

JSON = {"Content-Type": "application/json"}
YEAR = 365 * 86400


async def public_key(connection: Connection) -> str:
    return str((await connection.request("GET", PUBLIC_KEY)).json()["public_key"])


async def exchange(connection: Connection, body: bytes) -> int:
    return (await connection.request("POST", KEY_EXCHANGE, body, JSON)).status


@pytest.mark.parametrize("offset", [-10 * YEAR, -YEAR, -3600, -65, 65, 3600, YEAR])
async def test_threat_1_a_handshake_out_of_its_window_is_refused(connection: Connection, offset: float) -> None:
    pem = await public_key(connection)
    session = Session(Hotkey())
    assert await exchange(connection, session.handshake(pem, timestamp=time.time() + offset)) == 400


@pytest.mark.parametrize("offset", [0, 31, 55])
async def test_threat_1_the_same_handshake_never_twice(connection: Connection, offset: float) -> None:
    pem = await public_key(connection)
    session = Session(Hotkey())
    fields = {"timestamp": time.time() + offset, "nonce": f"nonce-{time.time_ns()}"}
    assert await exchange(connection, session.handshake(pem, **fields)) == 200
    thief = Session(session.hotkey)
    tries = [session.handshake(pem, **fields), thief.handshake(pem, **fields)] * 10
    assert {await exchange(connection, body) for body in tries} == {400}
    reply = await connection.request("POST", CHALLENGE, thief.seal(challenge("mine now")), thief.headers)
    assert reply.status == 401
    reply = await connection.request("POST", CHALLENGE, session.seal(challenge("still mine")), session.headers)
    assert reply.status == 200


async def test_threat_1_one_signature_is_one_handshake(connection: Connection) -> None:
    """The signed text joins its parts by dots: the same text split elsewhere is the same handshake again."""
    pem = await public_key(connection)
    session = Session(Hotkey())
    whole, fraction = f"{time.time():.3f}".split(".")
    text = f"{whole}.{fraction}.abc.{session.hotkey.ss58}"
    signature = session.hotkey.sign(text)
    fields: dict[str, object] = {"timestamp": float(f"{whole}.{fraction}"), "nonce": "abc", "signature": signature}
    body = session.handshake(pem, **fields).replace(str(fields["timestamp"]).encode(), f"{whole}.{fraction}".encode())
    assert await exchange(connection, body) == 200
    split = {"timestamp": int(whole), "nonce": f"{fraction}.abc", "signature": signature}
    assert await exchange(connection, Session(session.hotkey).handshake(pem, **split)) in {400, 422}


async def test_threat_1_ten_thousand_replays(miner: MinerProcess, new_validator: NewValidator) -> None:
    """One recorded handshake, its key exchanged for the thief's, from many sources."""
    honest = await new_validator(miner)
    pem = await honest.public_key()
    fields = {"timestamp": time.time(), "nonce": f"nonce-{time.time_ns()}"}
    assert await exchange(honest.connection, Session(honest.hotkey).handshake(pem, **fields)) == 200
    signed = Session(honest.hotkey).handshake(pem, **fields)
    seen: set[int] = set()

    async def replay(source: int) -> None:
        async with await miner.connect(f"127.1.0.{source + 1}") as connection:
            for _ in range(500):
                seen.add(await exchange(connection, signed))

    await asyncio.gather(*(replay(source) for source in range(20)))
    assert seen == {400}


@pytest.mark.parametrize("ahead", [0, 30])
async def test_threat_1_replay_across_a_restart(start_miner: StartMiner, ahead: float) -> None:
    """Also of a validator whose clock is ahead of ours, so that its handshake is dated after the next start."""
    miner = start_miner()
    async with await miner.connect() as connection:
        pem = await public_key(connection)
        hotkey = Hotkey()
        taken = time.time()
        fields = {"timestamp": taken + ahead, "nonce": f"nonce-{time.time_ns()}"}
        assert await exchange(connection, Session(hotkey).handshake(pem, **fields)) == 200
    miner.kill()
    miner.restart()
    async with await miner.connect() as connection:
        pem = await public_key(connection)
        thief = Session(hotkey)
        status = await exchange(connection, thief.handshake(pem, **fields))
        assert status == 400, f"a handshake of {time.time() - taken:.1f} s ago, before the restart, was taken again"


@pytest.mark.parametrize(("offset", "status"), [(-55, 400), (55, 200)])
async def test_threat_3_clocks_may_differ_by_55_seconds_but_not_reach_before_the_start(
    start_miner: StartMiner, offset: float, status: int
) -> None:
    """A slow clock is taken once the miner has run as long; before that its handshake may be a replay."""
    miner = start_miner()
    async with await miner.connect() as connection:
        pem = await public_key(connection)
        body = Session(Hotkey()).handshake(pem, timestamp=time.time() + offset)
        assert await exchange(connection, body) == status


async def test_threat_5_sessions_of_one_hotkey_are_bounded(
    miner: MinerProcess, new_validator: NewValidator, engine: StubEngine
) -> None:
    other = await new_validator(miner)
    await other.shake()
    greedy = await new_validator(miner)
    pem = await greedy.public_key()
    before = miner.pss()
    sessions = [await greedy.shake(pem) for _ in range(1500)]
    alive = [session for session in sessions if (await greedy.send(challenge("?"), session)).status == 200]
    assert 1 <= len(alive) <= 8
    assert sessions[-1] in alive
    assert (await other.ask("me too"))["response_text"]
    assert other.handshakes == 1
    grown = (miner.pss() - before) / 1e6
    assert grown < 5, f"{grown:.1f} MB more"


async def test_threat_4_junk_handshakes_leave_nothing_behind(miner: MinerProcess) -> None:
    """Forged signatures: 20 000 nonces, none kept."""
    async with await miner.connect() as connection:
        pem = await public_key(connection)
    forger, victim = Hotkey(), Hotkey()
    session = Session(forger)
    body = session.handshake(pem, validator_hotkey_ss58=victim.ss58, nonce="@" * 100, signature="0x" + "ab" * 64)
    seen: set[int] = set()

    async def forge(source: int, times: int) -> None:
        async with await miner.connect(f"127.2.0.{source + 1}") as connection:
            for at in range(times):
                nonce = f"{source:050d}{at:050d}".encode()
                seen.add(await exchange(connection, body.replace(b"@" * 100, nonce)))

    await asyncio.gather(*(forge(source, 100) for source in range(16)))
    before = miner.pss()
    await asyncio.gather(*(forge(source, 1250) for source in range(16)))
    grown = (miner.pss() - before) / 1e6
    assert seen == {400}
    assert grown < 3, f"{grown:.1f} MB more after 20 000"


async def test_threat_6_one_ciphertext_one_generation(
    miner: MinerProcess, validator: Validator, engine: StubEngine
) -> None:
    engine.behave(first_token_ms=200)
    session = validator.session
    assert session is not None
    token = session.seal(challenge("once"))

    async def send(source: int) -> list[int]:
        async with await miner.connect(f"127.3.0.{source + 1}") as connection:
            return [(await connection.request("POST", CHALLENGE, token, session.headers)).status for _ in range(50)]

    statuses = [status for part in await asyncio.gather(*(send(source) for source in range(20))) for status in part]
    assert sorted(statuses) == [200] + [409] * 999
    assert engine.stats().requests == 1


async def test_threat_6_the_same_ciphertext_in_other_spellings(validator: Validator, engine: StubEngine) -> None:
    """Base64 has many spellings of the same bytes; none of them is a second generation."""
    session = validator.session
    assert session is not None
    token = session.seal(challenge("once"))
    assert (await validator.connection.request("POST", CHALLENGE, token, session.headers)).status == 200
    body = token.rstrip(b"=")
    padding = len(token) - len(body)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [token + b"\n", b" " + token, token[:40] + b"\r\n" + token[40:], token[:40] + b"!" + token[40:]]
    spellings += [token + b"=", token + b"====", body, token.replace(b"-", b"+").replace(b"_", b"/")]
    spellings += [token + b"AAAA", token[:12] + b"=" + token[12:], token + b"\x00", token + "é".encode()]
    if padding:
        spare = 4 if padding == 2 else 2
        last = alphabet.index(body[-1])
        spellings += [body[:-1] + bytes([alphabet[last ^ bit]]) + b"=" * padding for bit in range(1, 2**spare // 2 + 1)]
    for spelling in spellings:
        reply = await validator.connection.request("POST", CHALLENGE, spelling, session.headers)
        assert reply.status in {401, 409}, (spelling[:50], spelling[-10:], reply.status)
    assert engine.stats().requests == 1


async def test_threat_6_a_token_belongs_to_its_session_and_hotkey(validator: Validator, engine: StubEngine) -> None:
    session = validator.session
    assert session is not None
    token = session.seal(challenge("mine"))
    stranger = Hotkey()
    foreign = [
        session.headers | {"x-fiber-validator-hotkey-ss58": stranger.ss58},
        session.headers | {"x-fiber-symmetric-key-uuid": "76cc20c2-4813-4e3e-a800-c0ba31aaed29"},
    ]
    for headers in foreign:
        reply = await validator.connection.request("POST", CHALLENGE, token, headers)
        assert reply.status in {401, 403}
    assert engine.stats().requests == 0
    assert (await validator.connection.request("POST", CHALLENGE, token, session.headers)).status == 200


async def test_threat_6_an_old_token_is_refused(validator: Validator, engine: StubEngine) -> None:
    session = validator.session
    assert session is not None
    for age in (130, 3600, YEAR):
        token = session.fernet.encrypt_at_time(b'{"prompt": "old"}', int(time.time()) - age)
        reply = await validator.connection.request("POST", CHALLENGE, token, session.headers)
        assert reply.status == 401
    assert engine.stats().requests == 0
