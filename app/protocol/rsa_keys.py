"""The miner's RSA keys: in memory only, renewed daily (threat 17)."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import HandshakeRefused
from app.protocol.inputs import Clock

KEY_BITS: Final = 2048
ROTATE_AFTER_SECONDS: Final = 86_400.0
OVERLAP_SECONDS: Final = 600.0


def oaep() -> padding.OAEP:
    """Return the padding of the handshake: OAEP with MGF1-SHA256, SHA256, no label (protocol, section 2)."""
    return padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)


class RsaKeyring:
    """The key that validators encrypt to now and, for a while after a rotation, the one before it.

    Making a key takes 0.1 s and more, so the two steps stand apart: `prepare` may run in a thread,
    `rotate` takes its result in the event loop. The previous key is forgotten by `rotation_due`,
    which is to be called every few seconds.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        rotate_after: float = ROTATE_AFTER_SECONDS,
        overlap: float = OVERLAP_SECONDS,
        key: rsa.RSAPrivateKey | None = None,
    ) -> None:
        self._clock = clock
        self._rotate_after = rotate_after
        self._overlap = overlap
        self._oaep = oaep()
        self._previous: rsa.RSAPrivateKey | None = None
        self._set_current(key or self.prepare())

    @property
    def public_pem(self) -> str:
        """The current public key, SubjectPublicKeyInfo in PEM."""
        return self._public_pem

    @staticmethod
    def prepare() -> rsa.RSAPrivateKey:
        """Return a new key. Slow, touches nothing, releases the GIL: call it in a thread."""
        return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)

    def rotate(self, key: rsa.RSAPrivateKey) -> None:
        """Let `key` be the current one; the one so far goes on to decrypt for the overlap."""
        self._previous = self._current
        self._set_current(key)

    def rotation_due(self) -> bool:
        """Whether the current key is older than `rotate_after`; forgets a previous key whose overlap is over."""
        age = self._clock() - self._since
        if age > self._overlap:
            self._previous = None
        return age >= self._rotate_after

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Return the plaintext; HandshakeRefused when no key of now opens it, in one way whatever the cause.

        A failure always tries every key. (A ciphertext above a modulus costs less; both are public.)
        """
        keys = [self._current]
        if self._previous is not None and self._clock() - self._since <= self._overlap:
            keys.append(self._previous)
        for key in keys:
            try:
                return key.decrypt(ciphertext, self._oaep)
            except ValueError:
                continue
        raise HandshakeRefused(reason="decrypt")

    def _set_current(self, key: rsa.RSAPrivateKey) -> None:
        self._current = key
        self._since = self._clock()
        self._public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def __repr__(self) -> str:
        return f"RsaKeyring(keys={1 if self._previous is None else 2})"
