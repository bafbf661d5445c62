"""The RSA keyring: rotation with an overlap, in memory only (threat 17)."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.errors import HandshakeRefused
from app.protocol.rsa_keys import RsaKeyring, oaep
from tests.protocol.support import RECORDED, START, Clock, recorded_key


def encrypted(pem: str, plaintext: bytes = b"secret") -> bytes:
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, RSAPublicKey)
    assert key.key_size == 2048
    assert key.public_numbers().e == 65537
    return key.encrypt(plaintext, oaep())


def test_the_public_key_is_what_validators_expect(clock: Clock) -> None:
    keyring = RsaKeyring(clock, key=recorded_key())
    assert keyring.public_pem == RECORDED["miner_rsa_public_key_pem"]
    assert RsaKeyring(clock).public_pem != RsaKeyring(clock).public_pem


def test_threat_17_rotation_keeps_the_previous_key_for_the_overlap(clock: Clock) -> None:
    keyring = RsaKeyring(clock, key=recorded_key())
    old = encrypted(keyring.public_pem, b"old")
    assert not keyring.rotation_due()
    clock.now = START + 86_400
    assert keyring.rotation_due()
    with ThreadPoolExecutor() as pool:
        keyring.rotate(pool.submit(keyring.prepare).result())
    assert not keyring.rotation_due()
    new = encrypted(keyring.public_pem, b"new")
    clock.now += 600
    assert keyring.decrypt(old) == b"old"
    assert keyring.decrypt(new) == b"new"
    clock.now += 0.1
    assert keyring.decrypt(new) == b"new"
    with pytest.raises(HandshakeRefused):
        keyring.decrypt(old)


def test_threat_17_a_previous_key_is_forgotten_after_its_overlap(clock: Clock) -> None:
    keyring = RsaKeyring(clock, key=recorded_key())
    keyring.rotate(keyring.prepare())
    assert repr(keyring) == "RsaKeyring(keys=2)"
    clock.now += 599
    keyring.rotation_due()
    assert repr(keyring) == "RsaKeyring(keys=2)"
    clock.now += 2
    keyring.rotation_due()
    assert repr(keyring) == "RsaKeyring(keys=1)"


@pytest.mark.parametrize("ciphertext", [b"", b"\x01", bytes(256), b"\xff" * 256, bytes(257)])
def test_what_is_no_ciphertext_is_refused_like_any_other(clock: Clock, ciphertext: bytes) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        RsaKeyring(clock, key=recorded_key()).decrypt(ciphertext)
    assert refused.value.reason == "decrypt"
    assert refused.value.__cause__ is None
