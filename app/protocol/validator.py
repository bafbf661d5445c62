"""What a validator does on the wire: for the `challenge` command, tests and benchmarks."""

import base64
from dataclasses import dataclass
from uuid import UUID

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from app.errors import MinerError
from app.protocol.envelope import FernetKey
from app.protocol.handshake import KeyExchange
from app.protocol.hotkeys import Hotkey
from app.protocol.inputs import Clock, Randomness
from app.protocol.rsa_keys import oaep
from app.protocol.wire import OCTET_STREAM, SYMMETRIC_KEY_UUID_HEADER, VALIDATOR_HOTKEY_HEADER


@dataclass(frozen=True, slots=True)
class ClientSession:
    """A validator's end of a session."""

    uuid: str
    hotkey: str
    key: FernetKey
    clock: Clock

    def challenge_headers(self) -> dict[str, str]:
        """Return the headers of `POST /fiber/challenge`."""
        return {
            "content-type": OCTET_STREAM,
            VALIDATOR_HOTKEY_HEADER: self.hotkey,
            SYMMETRIC_KEY_UUID_HEADER: self.uuid,
        }

    def seal(self, plaintext: bytes) -> bytes:
        """Return the token to post."""
        return self.key.seal(plaintext, self.clock())

    def open(self, token: bytes) -> bytes:
        """Return the plaintext of an answer; SessionRefused when it does not open."""
        return self.key.open(token, self.clock()).plaintext


class ValidatorSide:
    """A validator: a hotkey, a clock (unix seconds) and a source of random bytes."""

    def __init__(self, hotkey: Hotkey, clock: Clock, randomness: Randomness) -> None:
        self.hotkey = hotkey
        self._clock = clock
        self._randomness = randomness

    def key_exchange(self, public_pem: str) -> tuple[bytes, ClientSession]:
        """Return the body of `POST /fiber/key-exchange` to the miner of that key, and the session it opens.

        MinerError when the text is no RSA key in PEM.
        """
        public_key = _rsa_key(public_pem)
        key_text = base64.urlsafe_b64encode(self._randomness(32))
        unsigned = KeyExchange(
            encrypted_symmetric_key=public_key.encrypt(key_text, oaep()).hex(),
            symmetric_key_uuid=self._uuid4(),
            timestamp=msgspec.Raw(repr(self._clock()).encode()),
            nonce=self._uuid4(),
            signature="",
            validator_hotkey_ss58=self.hotkey.ss58,
        )
        signature = self.hotkey.sign(unsigned.signed_message())
        body = msgspec.json.encode(msgspec.structs.replace(unsigned, signature=f"0x{signature.hex()}"))
        key = FernetKey(key_text, self._randomness)
        return body, ClientSession(unsigned.symmetric_key_uuid, self.hotkey.ss58, key, self._clock)

    def _uuid4(self) -> str:
        return str(UUID(bytes=self._randomness(16), version=4))


def _rsa_key(public_pem: str) -> RSAPublicKey:
    try:
        key = load_pem_public_key(public_pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise MinerError("the miner's public key is not an RSA key in PEM")
    return key
