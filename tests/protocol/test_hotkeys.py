"""Hotkeys: signing, verifying, addresses."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.hotkeys import Hotkey, is_ss58, verify
from tests.protocol.support import RECORDED

ADDRESS = RECORDED["validator_hotkey_ss58"]


def test_a_signature_is_its_hotkeys_over_its_message() -> None:
    ours, theirs = Hotkey.ephemeral(), Hotkey.ephemeral()
    assert ours.ss58 != theirs.ss58
    signature = ours.sign(b"text")
    assert len(signature) == 64
    assert verify(ours.ss58, b"text", signature)
    assert not verify(theirs.ss58, b"text", signature)
    assert not verify(ours.ss58, b"texts", signature)
    assert not verify(ours.ss58, b"text", signature[:-1] + bytes([signature[-1] ^ 1]))


@given(st.text(max_size=60), st.binary(max_size=80), st.binary(max_size=70) | st.binary(min_size=64, max_size=64))
def test_verify_never_raises(address: str, message: bytes, signature: bytes) -> None:
    assert not verify(address, message, signature)
    assert not verify(ADDRESS, message, signature)


@pytest.mark.parametrize("seed", [b"", b"x" * 31, b"x" * 33])
def test_a_seed_of_another_length_is_named(seed: bytes) -> None:
    with pytest.raises(ValueError, match=f"this has {len(seed)}"):
        Hotkey.from_seed(seed)


def test_the_seed_is_in_no_text() -> None:
    seed = os.urandom(32)
    hotkey = Hotkey.from_seed(seed)
    for shown in (repr(hotkey), str(hotkey), f"{hotkey}"):
        assert hotkey.ss58 in shown
        assert seed.hex() not in shown
        assert repr(seed)[2:-1] not in shown


def test_addresses_of_the_chain() -> None:
    assert is_ss58(ADDRESS)
    assert is_ss58(Hotkey.ephemeral().ss58)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        ADDRESS[:-1],
        ADDRESS + "1",
        " " + ADDRESS,
        ADDRESS + "\n",
        ADDRESS[:-1] + "j",
        ADDRESS.lower(),
        "0x" + "11" * 32,
        "5" * 5000,
        "\ud800",
        "é" * 48,
        "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5",  # the same kind of key in Polkadot's spelling
    ],
)
def test_what_is_no_address_of_the_chain(text: str) -> None:
    assert not is_ss58(text)
