"""What the protocol's tests share: a clock to turn, the recorded exchanges, and a hand-written validator."""

import base64
import json
import os
import uuid
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.errors import Refusal
from app.protocol.handshake import Handshakes
from app.protocol.hotkeys import Hotkey
from app.protocol.replay import NonceMemory, TokenMemory
from app.protocol.rsa_keys import RsaKeyring
from app.protocol.sessions import Session, SessionTable

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "validator-exchanges.json").read_text(encoding="utf-8")
)
START = 1_795_437_100.0
HOME = "192.0.2.1"


@cache
def recorded_key() -> rsa.RSAPrivateKey:
    """The recorded miner's key; making one takes long, and so does reading it, which checks it."""
    key = load_pem_private_key(RECORDED["miner_rsa_private_key_pem"].encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


def anyone(_: str) -> bool:
    return True


def nobody(_: str) -> bool:
    return False


@dataclass
class Miner:
    """The miner's side of the protocol, whole, in one process's life."""

    clock: Clock = field(default_factory=Clock)
    key: rsa.RSAPrivateKey = field(default_factory=recorded_key)
    running_for: float = 3600.0
    per_hotkey: int = 8
    total: int = 1024
    ahead: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        self.keyring = RsaKeyring(self.clock, key=self.key)
        self.tokens = TokenMemory()
        self.sessions = SessionTable(self.clock, per_hotkey=self.per_hotkey, total=self.total, tokens=self.tokens)
        self.nonces = NonceMemory()
        self.handshakes = Handshakes(
            self.keyring,
            self.sessions,
            self.nonces,
            self.clock,
            randomness=os.urandom,
            started_at=self.clock.now - self.running_for,
            ahead=self.ahead,
        )

    def accept(self, body: bytes, source: str = HOME) -> Session:
        return self.handshakes.accept(body, source, anyone)

    def outcome(self, body: bytes, source: str = HOME) -> str:
        """`ok`, or the status and reason of the refusal."""
        try:
            self.accept(body, source)
        except Refusal as refusal:
            return f"{refusal.status} {refusal.reason}"
        return "ok"

    def restarted(self) -> "Miner":
        """The process after this one: it knows only what `ahead` holds."""
        return Miner(
            self.clock,
            key=self.key,
            running_for=0.0,
            per_hotkey=self.per_hotkey,
            total=self.total,
            ahead=self.ahead,
        )


def exchange(hotkey: Hotkey, key: rsa.RSAPrivateKey, timestamp: float | str, **fields: str) -> bytes:
    """A key exchange written by hand, apart from the product's own validator's side; `fields` replace.

    They replace what is sent, also where that makes the signature wrong; `signed_nonce` is signed too.
    """
    stamp = timestamp if isinstance(timestamp, str) else repr(timestamp)
    nonce = fields.pop("signed_nonce", str(uuid.uuid4()))
    oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
    secret = key.public_key().encrypt(base64.urlsafe_b64encode(os.urandom(32)), oaep)
    sent = {
        "encrypted_symmetric_key": secret.hex(),
        "symmetric_key_uuid": str(uuid.uuid4()),
        "timestamp": "@",
        "nonce": nonce,
        "signature": "0x" + hotkey.sign(f"{stamp}.{nonce}.{hotkey.ss58}".encode()).hex(),
        "validator_hotkey_ss58": hotkey.ss58,
    }
    return json.dumps(sent | fields).replace('"@"', stamp).encode()


def with_fields(body: bytes, **fields: str) -> bytes:
    """The same body with other values, the timestamp's text kept: what someone on the path can make of it."""
    text = body.decode()
    old = json.loads(text)
    for name, value in fields.items():
        text = text.replace(json.dumps(old[name]), json.dumps(value))
    return text.encode()
