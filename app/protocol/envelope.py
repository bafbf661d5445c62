"""Fernet: the form of every challenge and answer (protocol, section 3).

Built on AES-CBC and HMAC of `cryptography` rather than on its `Fernet`: that one reads the system's
clock, skips bytes that are no base64, does not hand out the authentication tag (by which replays are
known) and takes longer. For base64 msgspec's codec serves, which is twice as fast as `binascii` and strict.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from app.errors import SessionRefused
from app.protocol.inputs import Randomness

MAX_AGE_SECONDS: Final = 120
MAX_AHEAD_SECONDS: Final = 60
KEY_TEXT_BYTES: Final = 44

_VERSION: Final = b"\x80"
_KEY_BYTES: Final = 32
_BLOCK: Final = 16
_STAMP: Final = slice(1, 9)
_IV: Final = slice(9, 25)
_BODY_FROM: Final = 25
_MAC: Final = 32
_SHORTEST: Final = _BODY_FROM + _BLOCK + _MAC

_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
# '+' and '/' are no url-safe base64, a backslash would be an escape: '!' makes the decoder refuse them.
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_+/\\", b"+/!!!")
_BASE64: Final = msgspec.json.Decoder(bytes)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a token held, and its date in unix seconds.

    `mark` (16 bytes of its tag) is the same for every spelling of the same token.
    """

    plaintext: bytes
    mark: bytes
    stamp: int


class FernetKey:
    """A symmetric key. Its text forms never show it."""

    __slots__ = ("_aes", "_mac", "_randomness")

    def __init__(self, text: bytes, randomness: Randomness) -> None:
        """Take the 44 ASCII bytes that stand for 32 in url-safe base64; ValueError for anything else."""
        raw = _from_base64(text)
        if raw is None or len(raw) != _KEY_BYTES:
            raise ValueError(f"a Fernet key is {KEY_TEXT_BYTES} characters of url-safe base64")
        self._mac = HMAC(raw[:_BLOCK], SHA256())
        self._aes = AES(raw[_BLOCK:])
        self._randomness = randomness

    def seal(self, plaintext: bytes, now: float) -> bytes:
        """Return the token of `plaintext`, dated `now` (unix seconds)."""
        iv = self._randomness(_BLOCK)
        fill = _BLOCK - len(plaintext) % _BLOCK
        body = Cipher(self._aes, CBC(iv)).encryptor().update(plaintext + bytes((fill,)) * fill)
        signed = b"".join((_VERSION, int(now).to_bytes(8), iv, body))
        mac = self._mac.copy()
        mac.update(signed)
        return msgspec.json.encode(signed + mac.finalize())[1:-1].translate(_TO_URL_SAFE)

    def open(self, token: bytes, now: float) -> Opened:
        """Return what `token` holds.

        SessionRefused when it is no token of this key, more than 120 s old or more than 60 s ahead of
        `now` (unix seconds). A validator that retries encrypts anew, so that 401 mends all of these.
        """
        data = _from_base64(token)
        if data is None or len(data) < _SHORTEST or (len(data) - _SHORTEST) % _BLOCK or data[:1] != _VERSION:
            raise _unopenable()
        stamp = int.from_bytes(data[_STAMP])
        if not -MAX_AHEAD_SECONDS <= int(now) - stamp <= MAX_AGE_SECONDS:
            raise SessionRefused(
                "the token is too old or of the future: check clocks, encrypt anew", reason="token_age"
            )
        view = memoryview(data)
        mac = self._mac.copy()
        mac.update(view[:-_MAC])
        try:
            mac.verify(data[-_MAC:])
        except InvalidSignature:
            raise _unopenable() from None
        padded = Cipher(self._aes, CBC(data[_IV])).decryptor().update(view[_BODY_FROM:-_MAC])
        fill = padded[-1]
        if not 1 <= fill <= _BLOCK or not padded.endswith(bytes((fill,)) * fill):
            raise _unopenable()
        return Opened(padded[:-fill], data[-_MAC : _BLOCK - _MAC], stamp)


def _from_base64(text: bytes) -> bytes | None:
    """Return what url-safe base64 stands for, None when it is anything else."""
    try:
        return _BASE64.decode(b'"%b"' % text.translate(_FROM_URL_SAFE))
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _unopenable() -> SessionRefused:
    return SessionRefused("the token does not open with this session's key: shake hands again", reason="token")
