"""A validator written from the wire's description alone, sharing no code with the miner.

`app.protocol.validator` is the product's own validator's side; were these tests to use it, a misunderstanding that
both sides share would pass unseen. Here every field can also be forged.
"""

import json
import secrets
import time
import uuid
from typing import Any, Final, Protocol, Self, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]
import msgspec
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.miner.canary import PROMPT, canary_key
from tests.miner.http import Connection, Reply

OAEP: Final = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
PUBLIC_KEY: Final = "/fiber/public-key"
KEY_EXCHANGE: Final = "/fiber/key-exchange"
CHALLENGE: Final = "/fiber/challenge"
OK: Final = 200
UNAUTHORIZED: Final = 401


class _Keypair(Protocol):
    """What is used of the compiled library, which brings no types."""

    ss58_address: str

    def create_from_seed(self, seed: bytes) -> "_Keypair": ...
    def sign(self, message: bytes) -> bytes: ...
    def verify(self, message: bytes, signature: bytes) -> bool: ...


class _Verify(Protocol):
    """The library's check of a signature, by address."""

    def __call__(self, message: bytes, signature: bytes, ss58_address: str, /) -> bool: ...


_KEYPAIR: Final = cast("_Keypair", vars(bittensor_core)["Keypair"])
_VERIFY: Final = cast("_Verify", vars(bittensor_core)["verify"])


class Hotkey:
    """A validator's hotkey, made of a seed."""

    def __init__(self, seed: bytes | None = None) -> None:
        self.pair = _KEYPAIR.create_from_seed(seed or secrets.token_bytes(32))
        self.ss58 = self.pair.ss58_address

    def sign(self, message: str) -> str:
        """`0x` and the signature's hex."""
        return "0x" + self.pair.sign(message.encode()).hex()


def verified(ss58: str, message: str, signature: str) -> bool:
    """Whether the hotkey of that address signed the text."""
    return _VERIFY(message.encode(), bytes.fromhex(signature[2:]), ss58)


def seal_key(public_key_pem: str, key: bytes) -> str:
    """The symmetric key, for the owner of `public_key_pem` only."""
    public_key = serialization.load_pem_public_key(public_key_pem.encode())
    assert isinstance(public_key, rsa.RSAPublicKey)
    return public_key.encrypt(key, OAEP).hex()


def handshake_fields(hotkey: Hotkey, public_key_pem: str, key: bytes, **changed: object) -> dict[str, object]:
    """A key exchange's fields; `changed` overrides any of them, before it is signed where the signature covers it."""
    timestamp = changed.pop("timestamp", time.time())
    nonce = changed.pop("nonce", str(uuid.uuid4()))
    claimed = changed.pop("validator_hotkey_ss58", hotkey.ss58)
    return {
        "encrypted_symmetric_key": seal_key(public_key_pem, key),
        "symmetric_key_uuid": str(uuid.uuid4()),
        "timestamp": timestamp,
        "nonce": nonce,
        "signature": hotkey.sign(f"{timestamp}.{nonce}.{claimed}"),
        "validator_hotkey_ss58": claimed,
    } | changed


class Session:
    """A symmetric key that a miner may or may not have taken."""

    def __init__(self, hotkey: Hotkey, key: bytes | None = None, name: str | None = None) -> None:
        self.hotkey = hotkey
        self.key = key or canary_key()
        self.fernet = Fernet(self.key)
        self.name = name or str(uuid.uuid4())

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a challenge."""
        return {
            "Content-Type": "application/octet-stream",
            "x-fiber-validator-hotkey-ss58": self.hotkey.ss58,
            "x-fiber-symmetric-key-uuid": self.name,
        }

    def handshake(self, public_key_pem: str, **changed: object) -> bytes:
        """The key exchange's body."""
        fields = {"symmetric_key_uuid": self.name} | changed
        return json.dumps(handshake_fields(self.hotkey, public_key_pem, self.key, **fields)).encode()

    def seal(self, challenge: object) -> bytes:
        """A challenge as a token; bytes go in as they are."""
        plain = challenge if isinstance(challenge, bytes) else msgspec.json.encode(challenge)
        return self.fernet.encrypt(plain)

    def open(self, token: bytes) -> dict[str, Any]:
        """The answer's plaintext."""
        return msgspec.json.decode(self.fernet.decrypt(token), type=dict[str, Any])


def challenge(text: str, **fields: object) -> dict[str, object]:
    """A challenge as today's validators write it, with a canary in it."""
    return {
        "prompt": None,
        "messages": [{"role": "system", "content": f"Be brief. {PROMPT}"}, {"role": "user", "content": text}],
        "tools": None,
        "tool_choice": None,
        "model": "Qwen/Qwen2.5-32B-Instruct",
        "max_tokens": 12288,
        "temperature": 0.7,
        "top_p": 0.95,
        "correlation_id": None,
        "created_at": "2026-11-23T12:31:40.739940",
    } | fields


class Validator:
    """One hotkey with one connection and at most one session in use."""

    def __init__(self, connection: Connection, hotkey: Hotkey | None = None) -> None:
        self.connection = connection
        self.hotkey = hotkey or Hotkey()
        self.session: Session | None = None
        self.handshakes = 0

    async def public_key(self) -> str:
        """Ask for the miner's public key."""
        reply = await self.connection.request("GET", PUBLIC_KEY)
        assert reply.status == OK, (reply.status, reply.body)
        return str(reply.json()["public_key"])

    async def shake(self, public_key_pem: str | None = None) -> Session:
        """A whole handshake."""
        session = Session(self.hotkey)
        body = session.handshake(public_key_pem or await self.public_key())
        reply = await self.connection.request("POST", KEY_EXCHANGE, body, {"Content-Type": "application/json"})
        assert reply.status == OK, (reply.status, reply.body)
        assert reply.json()["success"] is True
        self.handshakes += 1
        self.session = session
        return session

    async def send(self, payload: object, session: Session | None = None) -> Reply:
        """Send one challenge and give whatever comes back."""
        session = session or self.session or await self.shake()
        return await self.connection.request("POST", CHALLENGE, session.seal(payload), session.headers)

    async def ask(self, text: str, **fields: object) -> dict[str, Any]:
        """Send one challenge, shaking hands again once if the miner wants that, and open the answer."""
        payload = challenge(text, **fields)
        reply = await self.send(payload)
        if reply.status == UNAUTHORIZED:
            body = reply.json()
            assert body["requires_handshake"] is True
            await self.shake(str(body["public_key"]))
            reply = await self.send(payload)
        return self.opened(reply)

    def opened(self, reply: Reply) -> dict[str, Any]:
        """The answer of a 200."""
        assert self.session is not None
        assert reply.status == OK, (reply.status, reply.body)
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["x-fiber-symmetric-key-uuid"] == self.session.name
        return self.session.open(reply.body)

    def close(self) -> None:
        """Hang up."""
        self.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.__aexit__()
