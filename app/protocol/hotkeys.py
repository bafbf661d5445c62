"""Signing identities: an sr25519 key and its ss58 address."""

import os
from typing import Final, Protocol, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]

SEED_BYTES: Final = 32
_LONGEST_SS58: Final = 48


class _Keypair(Protocol):
    ss58_address: str

    def sign(self, message: bytes) -> bytes: ...


class _KeypairClass(Protocol):
    def from_seed(self, seed: bytes) -> _Keypair: ...


class _Core(Protocol):
    """What is used of the library: it is compiled and brings no types."""

    Keypair: _KeypairClass

    def decode_ss58(self, ss58_address: str) -> bytes: ...
    def encode_ss58(self, public_key: bytes) -> str: ...
    def verify(self, message: bytes, signature: bytes, ss58_address: str) -> bool: ...


_core: Final = cast("_Core", bittensor_core)


class Hotkey:
    """A hotkey that can sign. Its text forms show the address and never the seed."""

    __slots__ = ("_keypair", "ss58")

    def __init__(self, keypair: _Keypair) -> None:
        self._keypair = keypair
        self.ss58 = keypair.ss58_address

    @classmethod
    def from_seed(cls, seed: bytes) -> "Hotkey":
        """Return the hotkey of a 32-byte seed; ValueError for any other length."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, this has {len(seed)}")
        return cls(_core.Keypair.from_seed(seed))

    @classmethod
    def ephemeral(cls) -> "Hotkey":
        """Return a new hotkey that is kept nowhere (development mode and tests)."""
        return cls.from_seed(os.urandom(SEED_BYTES))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte sr25519 signature."""
        return self._keypair.sign(message)

    def __repr__(self) -> str:
        return f"Hotkey({self.ss58})"


def is_ss58(text: str) -> bool:
    """Whether `text` is an address of the chain (format 42), in its only spelling.

    The same public key has other spellings (other network formats); were they let in, a validator's
    budgets, which are kept by address, could be multiplied.
    """
    if len(text) > _LONGEST_SS58:
        return False
    try:
        return _core.encode_ss58(_core.decode_ss58(text)) == text
    except ValueError:
        return False


def verify(ss58: str, message: bytes, signature: bytes) -> bool:
    """Whether the address's key signed `message`; False for a malformed address or signature.

    Like every Bittensor wallet, the library also takes a signature over `<Bytes>message</Bytes>`, the
    frame in which browser wallets sign. That is accepted here: only the same key can make it, over the
    same text, and the nonce in the text counts once whichever frame was signed.
    """
    try:
        return _core.verify(message, signature, ss58)
    except ValueError:
        return False
