"""Fernet tokens: exactly those of the `cryptography` package, strictly read; ciphertexts only once (threat 6)."""

import base64
import hmac
import os
import uuid

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Refusal, Replayed, SessionRefused, Unavailable
from app.protocol.envelope import FernetKey
from app.protocol.replay import TokenMemory
from app.protocol.sessions import Session, SessionTable
from tests.protocol.support import START, Clock

NOW = int(START)
TEXT = Fernet.generate_key()
KEY = FernetKey(TEXT, os.urandom)
SECRET = b"what nobody may read"


def altered(token: bytes, at: int, to: int) -> bytes:
    raw = bytearray(base64.urlsafe_b64decode(token))
    raw[at] ^= to
    return base64.urlsafe_b64encode(bytes(raw))


@given(st.binary(max_size=200))
def test_tokens_are_those_of_the_cryptography_package(plaintext: bytes) -> None:
    theirs = Fernet(TEXT)
    assert theirs.decrypt_at_time(KEY.seal(plaintext, NOW + 0.7), 120, NOW) == plaintext
    opened = KEY.open(theirs.encrypt_at_time(plaintext, NOW), NOW + 0.7)
    assert (opened.plaintext, opened.stamp, len(opened.mark)) == (plaintext, NOW, 16)


@pytest.mark.parametrize("size", [1024, 16 * 1024, 128 * 1024, 2 * 1024 * 1024])
def test_large_ones_too(size: int) -> None:
    plaintext = os.urandom(size)
    assert Fernet(TEXT).decrypt_at_time(KEY.seal(plaintext, NOW), 120, NOW) == plaintext
    assert KEY.open(Fernet(TEXT).encrypt_at_time(plaintext, NOW), NOW).plaintext == plaintext


@given(st.integers(0, 1_000), st.integers(1, 255))
def test_any_change_of_a_token_is_seen(at: int, change: int) -> None:
    token = KEY.seal(SECRET, NOW)
    raw_length = len(base64.urlsafe_b64decode(token))
    with pytest.raises(SessionRefused):
        KEY.open(altered(token, at % raw_length, change), NOW)


@given(st.binary(max_size=200) | st.from_regex(rb"\AgAAAAAB[A-Za-z0-9_=-]{0,150}\Z"))
def test_what_is_no_token_is_refused(token: bytes) -> None:
    with pytest.raises(SessionRefused) as refused:
        KEY.open(token, NOW)
    assert refused.value.status == 401


def test_base64_is_read_strictly() -> None:
    tokens = (KEY.seal(bytes(980), NOW) for _ in range(1000))
    token = next(token for token in tokens if b"-" in token and b"_" in token and token.endswith(b"="))
    assert KEY.open(token, NOW).plaintext == bytes(980)
    wrong = [
        token.replace(b"-", b"+"),
        token.replace(b"_", b"/"),
        token.rstrip(b"="),
        token + b"=",
        token + b"\n",
        b" " + token,
        token[:50] + b"\n" + token[50:],
        token[:50] + b"*" + token[50:],
        b"\\u0067" + token[1:],
        token + b'"',
        token + b"\xff",
    ]
    for text in wrong:
        with pytest.raises(SessionRefused):
            KEY.open(text, NOW)


def authentic(padded: bytes, version: bytes = b"\x80") -> bytes:
    """A token with the right authentication over whatever is inside: only a holder of the key can make it."""
    raw = base64.urlsafe_b64decode(TEXT)
    iv = bytes(16)
    inside = Cipher(AES(raw[16:]), CBC(iv)).encryptor().update(padded)
    signed = version + NOW.to_bytes(8) + iv + inside
    return base64.urlsafe_b64encode(signed + hmac.digest(raw[:16], signed, "sha256"))


@pytest.mark.parametrize(
    "token",
    [
        authentic(b""),
        authentic(bytes(16)),
        authentic(b"\x11" * 32),
        authentic(b"x" * 14 + b"\x01\x02"),
        authentic(b"x" * 15 + b"\x01", version=b"\x81"),
    ],
)
def test_an_authentic_token_of_a_wrong_form_is_refused(token: bytes) -> None:
    assert KEY.open(authentic(b"x" * 15 + b"\x01"), NOW).plaintext == b"x" * 15
    with pytest.raises(SessionRefused):
        KEY.open(token, NOW)


@pytest.mark.parametrize(("age", "taken"), [(-61, False), (-60, True), (0, True), (120, True), (121, False)])
def test_tokens_are_taken_for_two_minutes(age: int, taken: bool) -> None:  # noqa: FBT001 - a table
    token = KEY.seal(SECRET, NOW - age)
    if taken:
        assert KEY.open(token, NOW + 0.99).plaintext == SECRET
        return
    with pytest.raises(SessionRefused) as refused:
        KEY.open(token, NOW)
    assert refused.value.reason == "token_age"


@pytest.mark.parametrize("text", [b"", b"a" * 44, TEXT[:-1], TEXT + b"=", b"+" * 43 + b"=", b"\xff" * 44])
def test_what_is_no_key_is_a_value_error_that_does_not_repeat_it(text: bytes) -> None:
    with pytest.raises(ValueError, match="44 characters") as wrong:
        FernetKey(text, os.urandom)
    assert not text or repr(text)[2:-1] not in str(wrong.value)


def session(tokens: TokenMemory, clock: Clock) -> Session:
    return SessionTable(clock, tokens=tokens).add(str(uuid.uuid4()), "hotkey", KEY, "source")


def test_threat_06_a_thousand_duplicates_open_once(clock: Clock) -> None:
    opened = session(TokenMemory(), clock)
    token = KEY.seal(SECRET, clock())
    assert opened.open(token, clock()) == SECRET
    for number in range(1000):
        clock.now = START + number * 0.12
        with pytest.raises(Replayed) as refused:
            opened.open(token, clock())
        assert refused.value.status == 409
    for later in (121, 180, 400, 86_400):
        with pytest.raises(SessionRefused):
            opened.open(token, START + later)


def test_threat_06_a_token_of_the_future_is_known_for_as_long_as_it_opens(clock: Clock) -> None:
    opened = session(TokenMemory(), clock)
    token = KEY.seal(SECRET, clock() + 60)
    opened.open(token, clock())
    for second in range(181):
        with pytest.raises(Replayed):
            opened.open(token, START + second)
    with pytest.raises(SessionRefused):
        opened.open(token, START + 181)


def test_threat_06_another_spelling_is_the_same_ciphertext(clock: Clock) -> None:
    """The bits that base64 leaves over can be set to anything."""
    opened = session(TokenMemory(), clock)
    token = KEY.seal(b"x" * 20, clock())
    assert token.endswith(b"=")
    assert not token.endswith(b"==")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(token[-2])
    respelled = token[:-2] + alphabet[last ^ 1 : (last ^ 1) + 1] + b"="
    assert respelled != token
    assert base64.urlsafe_b64decode(respelled) == base64.urlsafe_b64decode(token)
    opened.open(token, clock())
    with pytest.raises(Refusal) as refused:
        opened.open(respelled, clock())
    assert refused.value.status == 409


def test_threat_06_a_clock_set_back_revives_no_ciphertext(clock: Clock) -> None:
    opened = session(TokenMemory(), clock)
    token = KEY.seal(SECRET, clock())
    opened.open(token, clock())
    opened.open(KEY.seal(b"much later", START + 1000), START + 1000)
    with pytest.raises(SessionRefused):
        opened.open(token, START)


def test_threat_06_a_full_memory_refuses_until_the_old_has_expired(clock: Clock) -> None:
    opened = session(TokenMemory(per_hotkey=3), clock)
    first = KEY.seal(b"0", clock())
    opened.open(first, clock())
    for number in range(2):
        opened.open(KEY.seal(b"%d" % number, clock()), clock())
    with pytest.raises(Unavailable) as full:
        opened.open(KEY.seal(b"one more", clock()), clock())
    assert full.value.retry_after
    with pytest.raises(Refusal):
        opened.open(first, clock())
    later = START + 210
    assert opened.open(KEY.seal(b"again", later), later) == b"again"


def test_threat_06_what_does_not_open_is_not_remembered(clock: Clock) -> None:
    tokens = TokenMemory()
    opened = session(tokens, clock)
    for _ in range(100):
        with pytest.raises(SessionRefused):
            opened.open(Fernet(Fernet.generate_key()).encrypt_at_time(b"", NOW), clock())
    assert len(tokens) == 0
