"""Handshakes: what is refused, in which order, and with which words."""

import json
import os
import random
import time

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.errors import ContentRefused, HandshakeRefused, NotAllowed, RateLimited, Refusal, Unavailable
from app.protocol.handshake import Handshakes
from app.protocol.hotkeys import Hotkey
from app.protocol.replay import NonceMemory
from app.protocol.rsa_keys import RsaKeyring
from app.protocol.validator import ValidatorSide
from tests.protocol.support import START, Clock, Miner, anyone, exchange, nobody, recorded_key, with_fields

YEAR = 365.25 * 86400
MB = 1_000_000


def thief(body: bytes, miner: Miner) -> bytes:
    """The recorded handshake with a key and a session name of someone else's."""
    other = json.loads(exchange(Hotkey.ephemeral(), miner.key, START))
    mine = ("encrypted_symmetric_key", "symmetric_key_uuid")
    return with_fields(body, **{name: other[name] for name in mine})


def test_threat_01_ten_thousand_replays_at_any_offset(miner: Miner, hotkey: Hotkey) -> None:
    body = exchange(hotkey, miner.key, miner.clock())
    miner.accept(body)
    stolen = thief(body, miner)
    spread = random.Random(1)
    offsets = sorted([0.0, 31.0, 59.9, 60.0, 60.1, 119.9, 120.1, 180.0, 3600.0, YEAR, 10 * YEAR])
    offsets += [10 * YEAR ** spread.random() for _ in range(10_000 - len(offsets))]
    outcomes: set[str] = set()
    for offset in sorted(offsets):
        miner.clock.now = START + offset
        outcomes.add(miner.outcome(stolen))
    assert outcomes == {"400 nonce", "400 stale"}


@pytest.mark.parametrize("skew", [-59.0, -5.0, -0.001, 0.001, 5.0, 30.0, 59.0])
def test_threat_01_replays_across_a_restart(miner: Miner, hotkey: Hotkey, skew: float) -> None:
    body = exchange(hotkey, miner.key, miner.clock() + skew)
    miner.accept(body)
    stolen = thief(body, miner)
    for pause in (0.0, 0.5, 4.0, 5.5, 59.0):
        miner.clock.now = START + pause
        after = miner.restarted()
        for offset in (0.0, 0.5, 31.0, 59.0, 61.0, 3600.0, YEAR):
            after.clock.now = START + pause + offset
            assert after.outcome(stolen) == "400 stale"
        after.clock.now = START + pause + 1
        assert after.outcome(exchange(hotkey, miner.key, after.clock.now + skew)) == (
            "ok" if skew > -1 else "400 stale"
        )


def test_threat_01_what_outlives_the_process_stays_small(miner: Miner) -> None:
    for _ in range(200):
        miner.clock.now += 1
        miner.accept(exchange(Hotkey.ephemeral(), miner.key, miner.clock.now + 50))
        miner.accept(exchange(Hotkey.ephemeral(), miner.key, miner.clock.now - 0.5))
    assert len(miner.ahead) == 111


def test_threat_01_a_clock_set_back_revives_no_handshake(miner: Miner, hotkey: Hotkey) -> None:
    body = exchange(hotkey, miner.key, miner.clock())
    miner.accept(body)
    miner.clock.now = START + 1000
    miner.accept(exchange(hotkey, miner.key, miner.clock()))
    miner.clock.now = START
    assert miner.outcome(thief(body, miner)).startswith("400")


def test_threat_01_a_signature_stands_for_one_pair_of_timestamp_and_nonce(miner: Miner, hotkey: Hotkey) -> None:
    """`17.5` and `x` sign the same text as `17` and `5.x`: only one reading may be taken."""
    body = exchange(hotkey, miner.key, f"{START:.0f}.25", signed_nonce="abc")
    other = body.replace(b".25,", b",").replace(b'"abc"', b'"25.abc"')
    assert miner.outcome(body) == "ok"
    assert miner.outcome(thief(other, miner)) == "422 content"


@pytest.mark.parametrize("offset", [-60.0, -55.0, 0.0, 55.0, 60.0])
def test_threat_03_clocks_may_differ_by_a_minute(miner: Miner, hotkey: Hotkey, offset: float) -> None:
    miner.accept(exchange(hotkey, miner.key, START + offset))
    assert miner.handshakes.skews[hotkey.ss58].seconds == pytest.approx(offset)
    assert miner.handshakes.skews[hotkey.ss58].seen == START


@pytest.mark.parametrize("offset", [-1e9, -65.0, -60.5, 60.5, 65.0, 1e9])
def test_threat_03_but_not_by_more(miner: Miner, hotkey: Hotkey, offset: float) -> None:
    assert miner.outcome(exchange(hotkey, miner.key, START + offset)) == "400 stale"
    assert not miner.handshakes.skews


def test_threat_03_the_window_is_a_setting(miner: Miner, hotkey: Hotkey) -> None:
    wide = Handshakes(
        miner.keyring,
        miner.sessions,
        NonceMemory(300.0),
        miner.clock,
        randomness=os.urandom,
        started_at=0.0,
        window=300.0,
    )
    body = exchange(hotkey, miner.key, START - 299)
    wide.accept(body, "source", anyone)
    miner.clock.now = START + 0.5
    with pytest.raises(HandshakeRefused) as refused:
        wide.accept(thief(body, miner), "source", anyone)
    assert refused.value.reason == "nonce"


def test_threat_04_invalid_handshakes_leave_nothing_behind(miner: Miner, hotkey: Hotkey) -> None:
    """100 000 of all kinds that come before the RSA key is used, 1000 of them with a forged signature."""
    good = exchange(hotkey, miner.key, START)
    forged = exchange(Hotkey.ephemeral(), miner.key, START, validator_hotkey_ss58=hotkey.ss58)
    late = exchange(hotkey, miner.key, START - 100)
    kinds = [(b"{}", anyone, 40_000), (good, nobody, 30_000), (late, anyone, 29_000), (forged, anyone, 1000)]
    before = psutil.Process().memory_info().rss
    statuses: set[int] = set()
    for body, allowed, times in kinds:
        head, tail = with_fields(body, nonce="#").split(b'"#"') if body != b"{}" else (b'{"nonce": ', b"}")
        for number in range(times):
            with pytest.raises(Refusal) if number == 0 else _Refused(statuses):
                miner.handshakes.accept(head + b'"junk-%d"' % number + tail, "source", allowed)
    assert statuses == {400, 403, 422}
    assert len(miner.nonces) == 0
    assert not miner.handshakes.skews
    assert psutil.Process().memory_info().rss - before < 5 * MB


class _Refused:
    """Like `pytest.raises`, a hundred times faster."""

    def __init__(self, statuses: set[int]) -> None:
        self.statuses = statuses

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, Refusal)
        self.statuses.add(error.status)
        return True


def test_threat_04_full_memories_refuse_instead_of_forgetting(clock: Clock) -> None:
    nonces = NonceMemory(per_hotkey=3, total=5)
    for number in range(3):
        nonces.check("a", str(number), clock.now, clock.now)
        nonces.add("a", str(number), clock.now)
    with pytest.raises(Unavailable) as full:
        nonces.check("a", "new", clock.now, clock.now)
    assert full.value.reason == "nonces_full"
    for number in range(2):
        nonces.check("b", str(number), clock.now, clock.now)
        nonces.add("b", str(number), clock.now)
    with pytest.raises(Unavailable):
        nonces.check("c", "new", clock.now, clock.now)
    later = clock.now + 119
    with pytest.raises(Unavailable):
        nonces.check("c", "new", later, later)
    later = clock.now + 140
    nonces.check("a", "0", later, later)
    assert len(nonces) == 0


def test_threat_05_handshakes_of_one_hotkey_hold_eight_sessions(miner: Miner, hotkey: Hotkey) -> None:
    other = miner.accept(exchange(Hotkey.ephemeral(), miner.key, START))
    validator = ValidatorSide(hotkey, miner.clock, os.urandom)
    for _ in range(2000):
        body, client = validator.key_exchange(miner.keyring.public_pem)
        session = miner.accept(body)
        assert session.open(client.seal(b"ping"), miner.clock()) == b"ping"
        miner.clock.now += 0.001
    assert len(miner.sessions.of(hotkey.ss58)) == 8
    assert miner.sessions.get(other.uuid, other.hotkey) is other
    assert len(miner.sessions) == 9


def test_the_order_is_the_cheapest_check_first(miner: Miner, hotkey: Hotkey) -> None:
    """Each body is wrong in all that follows too; the first fault is the one that is named."""
    wrong = {"signature": "0x" + "00" * 64, "encrypted_symmetric_key": "00" * 256}
    stale = exchange(hotkey, miner.key, START - 999, **wrong)
    with pytest.raises(ContentRefused):
        miner.handshakes.accept(stale.replace(hotkey.ss58.encode(), b"not-an-address"), "source", nobody)
    with pytest.raises(NotAllowed):
        miner.handshakes.accept(stale, "source", nobody)
    assert miner.outcome(stale) == "400 stale"
    assert miner.outcome(exchange(hotkey, miner.key, START, signed_nonce="n", **wrong)) == "400 signature"
    undecryptable = exchange(hotkey, miner.key, START, signed_nonce="n", encrypted_symmetric_key="00" * 256)
    assert miner.outcome(undecryptable) == "400 decrypt"
    assert miner.outcome(exchange(hotkey, miner.key, START, signed_nonce="n", **wrong)) == "400 nonce"


@pytest.mark.parametrize(
    "fields",
    [
        {"nonce": ""},
        {"nonce": "x" * 129},
        {"nonce": "a.b"},
        {"nonce": "a\nb"},
        {"symmetric_key_uuid": "76CC20C2-4813-4E3E-A800-C0BA31AAED29"},
        {"symmetric_key_uuid": "76cc20c248134e3ea800c0ba31aaed29"},
        {"symmetric_key_uuid": "76cc20c2-4813-4e3e-a800-c0ba31aaed29\n"},
        {"signature": "ab" * 65},
        {"signature": "0x" + "ab" * 63},
        {"signature": "0x" + "zz" * 64},
        {"encrypted_symmetric_key": "ab" * 255},
        {"encrypted_symmetric_key": "ab" * 257},
        {"encrypted_symmetric_key": "zz" * 256},
        {"validator_hotkey_ss58": ""},
        {"validator_hotkey_ss58": "5DtDLm5rQHShDqojQpsvcN8tRXHVFaecfDoRet1SU6BFD9Fj"},
        {"validator_hotkey_ss58": "5" * 100},
    ],
)
def test_malformed_fields_are_422(miner: Miner, hotkey: Hotkey, fields: dict[str, str]) -> None:
    assert miner.outcome(exchange(hotkey, miner.key, START, **fields)) == "422 content"


@pytest.mark.parametrize("text", ['"1795437100.0"', "null", "true", "[]", "{}", "9" * 33, "1" * 5000, "NaN", "01", ""])
def test_timestamps_that_are_no_numbers_are_422(miner: Miner, hotkey: Hotkey, text: str) -> None:
    assert miner.outcome(exchange(hotkey, miner.key, text)) == "422 content"


@pytest.mark.parametrize("text", ["1e999", "-1795437100", "-0", "1e9", "9" * 32])
def test_timestamps_of_another_time_are_stale(miner: Miner, hotkey: Hotkey, text: str) -> None:
    assert miner.outcome(exchange(hotkey, miner.key, text)) == "400 stale"


@pytest.mark.parametrize("text", ["1795437100", "1795437100.0", "1795437100.70", "17954371e2", "1.7954371E+9"])
def test_any_spelling_of_the_timestamp_is_signed_as_it_stands(miner: Miner, hotkey: Hotkey, text: str) -> None:
    assert miner.outcome(exchange(hotkey, miner.key, text)) == "ok"


def test_a_signature_in_a_wallets_frame_is_taken_once(miner: Miner, hotkey: Hotkey) -> None:
    plain = exchange(hotkey, miner.key, START, signed_nonce="n")
    message = f"{START!r}.n.{hotkey.ss58}".encode()
    framed = "0x" + hotkey.sign(b"<Bytes>" + message + b"</Bytes>").hex()
    assert miner.outcome(with_fields(plain, signature=framed)) == "ok"
    assert miner.outcome(thief(plain, miner)) == "400 nonce"


def test_threat_23_one_text_for_every_cause(miner: Miner, hotkey: Hotkey) -> None:
    good = exchange(hotkey, miner.key, START)
    taken = miner.accept(good).uuid
    not_a_key = miner.key.public_key().encrypt(b"x" * 44, padding.OAEP(padding.MGF1(SHA256()), SHA256(), None))
    bodies = [
        good,
        exchange(hotkey, miner.key, START - 61),
        exchange(Hotkey.ephemeral(), miner.key, START, validator_hotkey_ss58=hotkey.ss58),
        exchange(hotkey, miner.key, START, encrypted_symmetric_key="00" * 256),
        exchange(hotkey, miner.key, START, encrypted_symmetric_key=not_a_key.hex()),
        exchange(hotkey, miner.key, START, symmetric_key_uuid=taken),
    ]
    seen: dict[str, str] = {}
    for body in bodies:
        with pytest.raises(HandshakeRefused) as refused:
            miner.accept(body)
        seen[refused.value.reason] = f"{refused.value.status} {refused.value.detail}"
    assert set(seen) == {"nonce", "stale", "signature", "decrypt", "uuid"}
    assert len(set(seen.values())) == 1


def encrypted(keyring: RsaKeyring, how: padding.AsymmetricPadding) -> bytes:
    """A ciphertext below any modulus of 2048 bits: what is not is refused at once, and may be, both being public."""
    public = load_pem_public_key(keyring.public_pem.encode())
    assert isinstance(public, RSAPublicKey)
    tries = (public.encrypt(b"k" * 44, how) for _ in range(1000))
    return next(ciphertext for ciphertext in tries if ciphertext[0] < 0x80)


@pytest.mark.parametrize("overlap", [False, True])
def test_threat_23_every_failure_to_decrypt_costs_the_same(*, overlap: bool) -> None:
    """Six ways to be undecryptable, taken in turn; a way that left early would be far below the others."""
    clock = Clock()
    keyring = RsaKeyring(clock, key=recorded_key())
    if overlap:
        keyring.rotate(keyring.prepare())
    sha256 = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
    ways = {
        "noise": b"\x00" + os.urandom(255),
        "small": bytes(255) + b"\x02",
        "pkcs1": encrypted(keyring, padding.PKCS1v15()),
        "sha1": encrypted(keyring, padding.OAEP(padding.MGF1(SHA1()), SHA1(), None)),  # noqa: S303 - wrong
        "label": encrypted(keyring, padding.OAEP(padding.MGF1(SHA256()), SHA256(), b"label")),
        "other key": encrypted(RsaKeyring(clock), sha256),
    }
    costs: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(120):
        for way, ciphertext in ways.items():
            before = time.thread_time()
            with pytest.raises(HandshakeRefused):
                keyring.decrypt(ciphertext)
            costs[way].append(time.thread_time() - before)
    medians = {way: sorted(times)[60] for way, times in costs.items()}
    assert max(medians.values()) < 1.3 * min(medians.values()), medians


def test_threat_22_a_budget_that_is_spent_costs_no_rsa_and_no_session(miner: Miner, hotkey: Hotkey) -> None:
    """Only who signed for the hotkey spends from its budget, and a refusal leaves its sessions as they are."""
    spent: list[str] = []

    def spend(of: str) -> None:
        spent.append(of)
        if len(spent) > 1:
            raise RateLimited("too many", retry_after=1)

    forged = with_fields(exchange(hotkey, miner.key, START), signature="0x" + "00" * 64)
    with pytest.raises(HandshakeRefused):
        miner.handshakes.accept(forged, "source", anyone, None, spend)
    assert spent == []
    kept = miner.handshakes.accept(exchange(hotkey, miner.key, START), "source", anyone, None, spend)
    no_key = with_fields(exchange(hotkey, miner.key, START), encrypted_symmetric_key="00" * 256)
    with pytest.raises(RateLimited):  # RSA would have refused it with another error
        miner.handshakes.accept(no_key, "source", anyone, None, spend)
    assert spent == [hotkey.ss58, hotkey.ss58]
    assert miner.sessions.of(hotkey.ss58) == (kept,)
