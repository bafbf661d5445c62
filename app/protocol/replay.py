"""What came before: nonces of handshakes and ciphertexts of challenges (threats 1, 4 and 6).

Both memories are bounded and fail safe. Nothing is dropped before it could no longer be replayed: a full
memory refuses what is new until the old has expired, and a clock that is set back revives nothing.
"""

from hashlib import blake2b
from typing import Final

from app.errors import HandshakeRefused, Replayed, SessionRefused, Unavailable
from app.protocol.envelope import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS

NONCE_CHARACTERS: Final = 128
_MARK_BYTES: Final = 16
_SLOTS: Final = 8


class _Recent:
    """Marks of 16 bytes by owner, each kept for `keep` seconds after it came.

    They lie in slots of an eighth of that time, so that forgetting costs nothing per mark. A mark's own
    date may be up to `ahead` seconds after its coming.
    """

    def __init__(self, *, keep: float, ahead: float, per_owner: int, total: int) -> None:
        self._width = keep / _SLOTS
        self._keep = keep
        self._ahead = ahead
        self._per_owner = per_owner
        self._total = total
        self._slots: dict[int, dict[str, set[bytes]]] = {}
        self._counts: dict[str, int] = {}
        self._held = 0
        self._swept = -1
        self.horizon = float("-inf")

    def __len__(self) -> int:
        return self._held

    def has(self, owner: str, mark: bytes) -> bool:
        return any(mark in owners[owner] for owners in self._slots.values() if owner in owners)

    def has_room(self, owner: str, now: float) -> bool:
        self._sweep(now)
        return self._held < self._total and self._counts.get(owner, 0) < self._per_owner

    def add(self, owner: str, mark: bytes, now: float) -> None:
        self._slots.setdefault(int(now // self._width), {}).setdefault(owner, set()).add(mark)
        self._counts[owner] = self._counts.get(owner, 0) + 1
        self._held += 1

    def _sweep(self, now: float) -> None:
        """Drop the slots that are over, and move the horizon: what is dated before it may have been among them."""
        slot_now = int(now // self._width)
        if slot_now <= self._swept:
            return
        self._swept = slot_now
        for slot in [slot for slot in self._slots if (slot + 1) * self._width + self._keep <= now]:
            for owner, marks in self._slots.pop(slot).items():
                self._held -= len(marks)
                self._counts[owner] -= len(marks)
                if not self._counts[owner]:
                    del self._counts[owner]
            self.horizon = max(self.horizon, (slot + 1) * self._width + self._ahead)


class NonceMemory:
    """The nonces of verified handshakes, per hotkey, for two windows.

    A hotkey may have 16 384 in that time and all together 65 536 (about 6 MB); over that, 503.
    """

    def __init__(self, window: float = 60.0, *, per_hotkey: int = 16_384, total: int = 65_536) -> None:
        self._window = window
        self._recent = _Recent(keep=2 * window, ahead=window, per_owner=per_hotkey, total=total)

    def __len__(self) -> int:
        return len(self._recent)

    def check(self, hotkey: str, nonce: str, timestamp: float, now: float) -> None:
        """Raise HandshakeRefused when the nonce was used, or may have been; Unavailable when the memory is full."""
        if not self._recent.has_room(hotkey, now):
            raise Unavailable("too many handshakes lately", reason="nonces_full", retry_after=max(1, int(self._window)))
        if timestamp < self._recent.horizon:
            raise HandshakeRefused(reason="stale")
        if self._recent.has(hotkey, _mark(nonce)):
            raise HandshakeRefused(reason="nonce")

    def add(self, hotkey: str, nonce: str, now: float) -> None:
        """Remember a nonce; to be called after `check`, once the signature is verified."""
        self._recent.add(hotkey, _mark(nonce), now)


class TokenMemory:
    """The ciphertexts that were opened, by 16 bytes of their tag, for as long as they would open again.

    A hotkey may have 65 536 in those three minutes and all together 131 072 (about 12 MB); over that, 503.
    """

    def __init__(self, *, per_hotkey: int = 65_536, total: int = 131_072) -> None:
        self._recent = _Recent(
            keep=MAX_AGE_SECONDS + MAX_AHEAD_SECONDS, ahead=MAX_AHEAD_SECONDS, per_owner=per_hotkey, total=total
        )

    def __len__(self) -> int:
        return len(self._recent)

    def add(self, hotkey: str, mark: bytes, stamp: float, now: float) -> None:
        """Remember a token that is authentic and was dated `stamp`.

        Replayed when it came before, SessionRefused when it may have (a clock set back), Unavailable
        when the memory is full.
        """
        if not self._recent.has_room(hotkey, now):
            raise Unavailable("too many challenges lately", reason="tokens_full", retry_after=MAX_AGE_SECONDS)
        if self._recent.has(hotkey, mark):
            raise Replayed("this ciphertext came before: encrypt anew")
        if stamp < self._recent.horizon:
            raise SessionRefused("the token is too old: encrypt anew", reason="token_age")
        self._recent.add(hotkey, mark, now)


def _mark(nonce: str) -> bytes:
    return blake2b(nonce.encode(), digest_size=_MARK_BYTES).digest()
