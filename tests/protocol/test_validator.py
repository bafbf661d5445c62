"""The validator's side against the miner's."""

import json
import os
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import MinerError, SessionRefused
from app.protocol.hotkeys import Hotkey
from app.protocol.validator import ValidatorSide
from tests.protocol.support import START, Clock, Miner


def test_both_sides_understand_each_other(miner: Miner, hotkey: Hotkey) -> None:
    validator = ValidatorSide(hotkey, miner.clock, os.urandom)
    body, client = validator.key_exchange(miner.keyring.public_pem)
    session = miner.accept(body)
    headers = client.challenge_headers()
    assert headers["content-type"] == "application/octet-stream"
    found = miner.sessions.get(headers["x-fiber-symmetric-key-uuid"], headers["x-fiber-validator-hotkey-ss58"])
    assert found is session
    assert session.open(client.seal(b"question"), miner.clock()) == b"question"
    assert client.open(session.seal(b"answer", miner.clock())) == b"answer"
    with pytest.raises(SessionRefused):
        client.open(b"gAAAA")


def test_the_body_is_the_documented_one(miner: Miner, hotkey: Hotkey) -> None:
    body, client = ValidatorSide(hotkey, miner.clock, os.urandom).key_exchange(miner.keyring.public_pem)
    sent = json.loads(body)
    assert list(sent) == [
        "encrypted_symmetric_key",
        "symmetric_key_uuid",
        "timestamp",
        "nonce",
        "signature",
        "validator_hotkey_ss58",
    ]
    assert sent["timestamp"] == START
    assert sent["symmetric_key_uuid"] == client.uuid
    for name in ("symmetric_key_uuid", "nonce"):
        assert UUID(sent[name]).version == 4


def test_every_handshake_is_new(miner: Miner, hotkey: Hotkey) -> None:
    validator = ValidatorSide(hotkey, miner.clock, os.urandom)
    sent = [json.loads(validator.key_exchange(miner.keyring.public_pem)[0]) for _ in range(2)]
    for name in ("encrypted_symmetric_key", "symmetric_key_uuid", "nonce", "signature"):
        assert sent[0][name] != sent[1][name]


def elliptic() -> str:
    public = generate_private_key(SECP256R1()).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "pem", ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", elliptic()]
)
def test_what_is_no_rsa_key_is_said(clock: Clock, hotkey: Hotkey, pem: str) -> None:
    with pytest.raises(MinerError, match="not an RSA key"):
        ValidatorSide(hotkey, clock, os.urandom).key_exchange(pem)
