"""The validator's own client against our code: the six recorded exchanges, both ways."""

import base64
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet

from app.errors import HandshakeRefused
from app.protocol.envelope import FernetKey
from app.protocol.handshake import KeyExchange
from app.protocol.hotkeys import Hotkey, verify
from tests.protocol.support import RECORDED, Clock, Miner

ALL = [pytest.param(exchange, id=exchange["name"]) for exchange in RECORDED["exchanges"]]


def stamp_and_iv(token: str) -> tuple[int, bytes]:
    raw = base64.urlsafe_b64decode(token)
    return int.from_bytes(raw[1:9]), raw[9:25]


def at_recording(exchange: dict[str, Any]) -> Miner:
    return Miner(Clock(float(exchange["signed_message"].rsplit(".", 2)[0]) + 0.2))


def test_all_six_are_here() -> None:
    assert len(ALL) == 6


@pytest.mark.parametrize("exchange", ALL)
def test_recorded_exchange_runs_through_the_miner(exchange: dict[str, Any]) -> None:
    miner = at_recording(exchange)
    headers = exchange["challenge_headers"]
    session = miner.accept(exchange["key_exchange_body"].encode())
    again = miner.sessions.get(headers["x-fiber-symmetric-key-uuid"], headers["x-fiber-validator-hotkey-ss58"])
    assert again is session
    plaintext = session.open(exchange["challenge_token"].encode(), miner.clock())
    assert plaintext == exchange["challenge_plaintext"].encode()
    answer = session.seal(exchange["answer_plaintext_accepted"].encode(), miner.clock())
    assert Fernet(exchange["symmetric_key"]).decrypt(answer) == exchange["answer_plaintext_accepted"].encode()


@pytest.mark.parametrize("exchange", ALL)
def test_recorded_tokens_are_made_byte_for_byte(exchange: dict[str, Any]) -> None:
    for name in ("challenge", "answer"):
        token = exchange["challenge_token" if name == "challenge" else "answer_token_accepted"]
        plaintext = exchange["challenge_plaintext" if name == "challenge" else "answer_plaintext_accepted"].encode()
        stamp, iv = stamp_and_iv(token)
        key = FernetKey(exchange["symmetric_key"].encode(), lambda _, iv=iv: iv)
        assert key.seal(plaintext, stamp + 0.9) == token.encode()
        assert key.open(token.encode(), stamp + 1.0).plaintext == plaintext


@pytest.mark.parametrize("exchange", ALL)
def test_the_timestamp_is_signed_as_it_stands(exchange: dict[str, Any]) -> None:
    body = exchange["key_exchange_body"]
    asked = msgspec.json.decode(body, type=KeyExchange)
    assert asked.signed_message() == exchange["signed_message"].encode()
    text = asked.timestamp_text
    miner = at_recording(exchange)
    with pytest.raises(HandshakeRefused) as refused:
        miner.accept(body.replace(text, text + "0").encode())
    assert refused.value.reason == "signature"


def test_the_recorded_seeds_are_the_recorded_hotkeys() -> None:
    for who in ("validator", "miner"):
        hotkey = Hotkey.from_seed(bytes.fromhex(RECORDED[f"{who}_seed"][2:]))
        assert hotkey.ss58 == RECORDED[f"{who}_hotkey_ss58"]
        assert verify(hotkey.ss58, b"text", hotkey.sign(b"text"))
