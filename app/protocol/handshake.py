"""The miner's side of the handshake (protocol, section 2; threats 1, 3, 4 and 23)."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from app.errors import ContentRefused, HandshakeRefused, NotAllowed
from app.protocol import hotkeys, json_shape
from app.protocol.envelope import FernetKey
from app.protocol.inputs import Clock, Randomness
from app.protocol.replay import NONCE_CHARACTERS, NonceMemory
from app.protocol.rsa_keys import RsaKeyring
from app.protocol.sessions import Session, SessionTable

WINDOW_SECONDS: Final = 60.0
_TIMESTAMP_CHARACTERS: Final = 32
_SKEWS_KEPT: Final = 1024


class KeyExchange(msgspec.Struct, frozen=True):
    """The body of `POST /fiber/key-exchange`.

    A nonce holds no dot. The signed text joins its parts by dots, and with a dot in the nonce the same
    signature would also stand for a shorter timestamp with a longer, unused nonce: a replay.
    """

    encrypted_symmetric_key: Annotated[str, Meta(pattern="^[0-9a-fA-F]{512}$", max_length=512)]
    symmetric_key_uuid: Annotated[
        str, Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", max_length=36)
    ]
    timestamp: msgspec.Raw
    nonce: Annotated[str, Meta(pattern="^[0-9A-Za-z_-]+$", max_length=NONCE_CHARACTERS)]
    signature: Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{128}$", max_length=130)]
    validator_hotkey_ss58: Annotated[str, Meta(min_length=1, max_length=48)]

    @property
    def timestamp_text(self) -> str:
        """The timestamp exactly as it stands in the JSON: that text is signed."""
        return bytes(self.timestamp).decode()

    def signed_message(self) -> bytes:
        """Return the bytes that the validator's hotkey signs."""
        return f"{self.timestamp_text}.{self.nonce}.{self.validator_hotkey_ss58}".encode()


@dataclass(frozen=True, slots=True)
class Skew:
    """How far a validator's clock was ahead of ours (seconds, negative when behind), and when that was seen."""

    seconds: float
    seen: float


class Handshakes:
    """Accepts handshakes. Not for several threads at once: a nonce is checked and stored in two steps.

    Nonces die with the process, so nothing signed before the start is taken: the process before may have
    taken it. That leaves validators whose clock is ahead, whose handshakes of just before are dated after
    the start. `ahead` (by hotkey, the latest such timestamp) closes this where it outlives the process: a
    small mapping that is read once, and written before the handshake is answered.
    """

    def __init__(
        self,
        keyring: RsaKeyring,
        sessions: SessionTable,
        nonces: NonceMemory,
        clock: Clock,
        *,
        randomness: Randomness,
        started_at: float,
        window: float = WINDOW_SECONDS,
        ahead: MutableMapping[str, float] | None = None,
    ) -> None:
        self._keyring = keyring
        self._sessions = sessions
        self._nonces = nonces
        self._clock = clock
        self._randomness = randomness
        self._started_at = started_at
        self._window = window
        self._ahead: MutableMapping[str, float] = {} if ahead is None else ahead
        self._taken_before = dict(self._ahead)
        self._decoder = msgspec.json.Decoder(KeyExchange)
        self._skews: OrderedDict[str, Skew] = OrderedDict()

    @property
    def skews(self) -> Mapping[str, Skew]:
        """The clock skew of each validator that shook hands, the latest last."""
        return MappingProxyType(self._skews)

    def accept(
        self,
        body: bytes,
        source: str,
        is_allowed: Callable[[str], bool],
        is_home: Callable[[str, str], bool] | None = None,
        spend: Callable[[str], None] | None = None,
    ) -> Session:
        """Return the session that a handshake opens; the cheapest checks come first.

        `is_home` says of a hotkey and a source address whether that validator is known by it. `spend` takes from the
        budget of a hotkey that has just proved itself, and may refuse: before RSA, which is what costs.
        ContentRefused (422) when malformed, NotAllowed (403), HandshakeRefused (400, one text) when stale,
        replayed, not signed by the hotkey, not decrypted or under a name that is taken, Unavailable (503)
        when there is no room.
        """
        now = self._clock()
        asked = json_shape.decode(self._decoder, body)
        timestamp = _seconds(asked)
        hotkey = asked.validator_hotkey_ss58
        if not hotkeys.is_ss58(hotkey):
            raise ContentRefused("not an ss58 address of this chain - at `$.validator_hotkey_ss58`")
        if not is_allowed(hotkey):
            raise NotAllowed("this hotkey may not call this miner", reason="hotkey")
        if abs(now - timestamp) > self._window or not self._is_of_this_process(hotkey, timestamp):
            raise HandshakeRefused(reason="stale")
        self._nonces.check(hotkey, asked.nonce, timestamp, now)
        if not hotkeys.verify(hotkey, asked.signed_message(), bytes.fromhex(asked.signature[2:])):
            raise HandshakeRefused(reason="signature")
        self._nonces.add(hotkey, asked.nonce, now)
        if spend is not None:
            spend(hotkey)
        self._note_clock(hotkey, timestamp, now)
        key = self._decrypted(asked)
        home = is_home is not None and is_home(hotkey, source)
        return self._sessions.add(asked.symmetric_key_uuid, hotkey, key, source, home=home)

    def _decrypted(self, asked: KeyExchange) -> FernetKey:
        text = self._keyring.decrypt(bytes.fromhex(asked.encrypted_symmetric_key))
        try:
            return FernetKey(text, self._randomness)
        except ValueError:
            raise HandshakeRefused(reason="decrypt") from None

    def _is_of_this_process(self, hotkey: str, timestamp: float) -> bool:
        return timestamp >= self._started_at and timestamp > self._taken_before.get(hotkey, float("-inf"))

    def _note_clock(self, hotkey: str, timestamp: float, now: float) -> None:
        self._skews[hotkey] = Skew(timestamp - now, now)
        self._skews.move_to_end(hotkey)
        if len(self._skews) > _SKEWS_KEPT:
            self._skews.popitem(last=False)
        if timestamp > max(now, self._ahead.get(hotkey, now)):
            for over in [other for other, latest in self._ahead.items() if latest < now - self._window]:
                del self._ahead[over]
            self._ahead[hotkey] = timestamp


def _seconds(asked: KeyExchange) -> float:
    """Return the timestamp as a number; ContentRefused when it is another kind of JSON, or absurdly long."""
    raw = bytes(asked.timestamp)
    if len(raw) > _TIMESTAMP_CHARACTERS or raw[:1] not in b"-0123456789":
        raise ContentRefused("Expected `float` - at `$.timestamp`")
    return float(raw)
