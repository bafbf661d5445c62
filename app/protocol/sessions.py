"""Sessions: the symmetric keys that handshakes left behind (protocol, sections 2 and 3)."""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from app.errors import HandshakeRefused, SessionRefused, Unavailable
from app.protocol.envelope import FernetKey
from app.protocol.inputs import Clock
from app.protocol.replay import TokenMemory

TTL_SECONDS: Final = 3600.0
PER_HOTKEY: Final = 8
TOTAL: Final = 1024
FORGOTTEN_SECONDS: Final = 600.0
_FULL_RETRY_SECONDS: Final = 60


class Session:
    """A symmetric key of one hotkey, named by a UUID. Its text forms never show the key.

    `source` is the address that shook hands; `home` says that it is one the validator is known by.
    Requests hold their session in use: `with session: ...`, or `begin` and `end`.
    """

    __slots__ = ("_key", "_tokens", "created", "expires", "home", "hotkey", "in_flight", "last_used", "source", "uuid")

    def __init__(
        self,
        *,
        uuid: str,
        hotkey: str,
        source: str,
        home: bool,
        key: FernetKey,
        tokens: TokenMemory,
        now: float,
        ttl: float,
    ) -> None:
        self.uuid = uuid
        self.hotkey = hotkey
        self.source = source
        self.home = home
        self.created = now
        self.expires = now + ttl
        self.last_used = now
        self.in_flight = 0
        self._key = key
        self._tokens = tokens

    def open(self, token: bytes, now: float) -> bytes:
        """Return the plaintext of a challenge.

        SessionRefused (401) when it does not open or is older than 120 s, Replayed (409) when the same
        ciphertext came before, Unavailable (503) when too many came to remember one more.
        """
        opened = self._key.open(token, now)
        self._tokens.add(self.hotkey, opened.mark, opened.stamp, now)
        self.last_used = now
        return opened.plaintext

    def seal(self, plaintext: bytes, now: float) -> bytes:
        """Return the token of an answer. It may outlive the session: what was asked in time is answered."""
        self.last_used = now
        return self._key.seal(plaintext, now)

    def begin(self) -> None:
        """Count a request that uses this session: while one does, no newcomer ends it."""
        self.in_flight += 1

    def end(self) -> None:
        """Take back one `begin`."""
        self.in_flight -= 1

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def __repr__(self) -> str:
        return f"Session({self.uuid}, hotkey={self.hotkey}, source={self.source}, in_flight={self.in_flight})"


@dataclass(slots=True)
class SessionCounts:
    """How often each thing happened to a session table since it was made."""

    added: int = 0
    evicted: int = 0
    expired: int = 0
    refused: int = 0


class SessionTable:
    """All sessions. At most `per_hotkey` of a hotkey and `total` in all, each for `ttl` seconds.

    A newcomer only ever ends a session of its own hotkey, or one that nobody has used for ten minutes: the signed
    text of a handshake names no miner, so another miner can relay one (threat 2), and must not thereby end the
    genuine session.
    """

    def __init__(
        self,
        clock: Clock,
        ttl: float = TTL_SECONDS,
        per_hotkey: int = PER_HOTKEY,
        total: int = TOTAL,
        *,
        tokens: TokenMemory | None = None,
    ) -> None:
        self._clock = clock
        self._ttl = ttl
        self._per_hotkey = per_hotkey
        self._total = total
        self._tokens = TokenMemory() if tokens is None else tokens
        self._by_uuid: OrderedDict[str, Session] = OrderedDict()
        self._by_hotkey: dict[str, dict[str, Session]] = {}
        self.counts = SessionCounts()

    def __len__(self) -> int:
        return len(self._by_uuid)

    def of(self, hotkey: str) -> tuple[Session, ...]:
        """Return the sessions of a hotkey, oldest first."""
        return tuple(self._by_hotkey.get(hotkey, {}).values())

    def add(self, uuid: str, hotkey: str, key: FernetKey, source: str, *, home: bool = False) -> Session:
        """Return a new session.

        HandshakeRefused when the name is taken, also by the same hotkey: validators draw a new UUID for
        each handshake, and to replace a key under its name is what a relayed handshake would try.
        Unavailable when the bounds are reached and no session may go for this one.
        """
        now = self._clock()
        self._drop_expired(now)
        if uuid in self._by_uuid:
            self.counts.refused += 1
            raise HandshakeRefused(reason="uuid")
        self._make_room(hotkey, source, now, home=home)
        session = Session(
            uuid=uuid, hotkey=hotkey, source=source, home=home, key=key, tokens=self._tokens, now=now, ttl=self._ttl
        )
        self._by_uuid[uuid] = session
        self._by_hotkey.setdefault(hotkey, {})[uuid] = session
        self.counts.added += 1
        return session

    def get(self, uuid: str, hotkey: str) -> Session:
        """Return the session; SessionRefused when there is none of this hotkey by that name, or its time is over."""
        session = self._by_uuid.get(uuid)
        if session is None or session.hotkey != hotkey:
            raise SessionRefused("no such session: shake hands again", reason="unknown")
        if session.expires <= self._clock():
            raise SessionRefused("the session has expired: shake hands again", reason="expired")
        return session

    def end_all(self, hotkey: str) -> int:
        """End all sessions of a hotkey that may not call any more; gives how many. What is in flight is answered."""
        ended = self.of(hotkey)
        for session in ended:
            self._remove(session)
        return len(ended)

    def _drop_expired(self, now: float) -> None:
        """Drop what is over. All live equally long, so the oldest stand first."""
        while self._by_uuid:
            oldest = next(iter(self._by_uuid.values()))
            if oldest.expires > now:
                return
            self._remove(oldest)
            self.counts.expired += 1

    def _make_room(self, hotkey: str, source: str, now: float, *, home: bool) -> None:
        mine = self.of(hotkey)
        if len(mine) < self._per_hotkey and len(self._by_uuid) < self._total:
            return
        full = len(self._by_uuid) >= self._total
        leaver = _who_goes(mine, source, home=home) or _forgotten(self._by_uuid.values() if full else mine, now)
        if leaver is None:
            self.counts.refused += 1
            raise Unavailable("no room for one more session", reason="sessions_full", retry_after=_FULL_RETRY_SECONDS)
        self._remove(leaver)
        self.counts.evicted += 1

    def _remove(self, session: Session) -> None:
        del self._by_uuid[session.uuid]
        siblings = self._by_hotkey[session.hotkey]
        del siblings[session.uuid]
        if not siblings:
            del self._by_hotkey[session.hotkey]


def _who_goes(mine: tuple[Session, ...], source: str, *, home: bool) -> Session | None:
    """Return which of a hotkey's sessions ends for a newcomer from `source`, if any may.

    Never one with a request in flight. If the newcomer's source has sessions, the one of them that has
    been idle for longest. If it has none, it may take a place of the source that holds most, but never
    a source's only session and never one of the validator's own address; a newcomer from that address
    (`home`) may take any.
    """
    same = [session for session in mine if session.source == source]
    same_idle = [session for session in same if not session.in_flight]
    if same_idle:
        return min(same_idle, key=_last_used)
    if same and not home:
        return None
    held = Counter(session.source for session in mine)
    idle = [session for session in mine if not session.in_flight]
    other = [session for session in idle if home or (held[session.source] > 1 and not session.home)]
    return min(other, key=lambda session: (session.home, -held[session.source], session.last_used), default=None)


def _forgotten(sessions: Iterable[Session], now: float) -> Session | None:
    """Return the session idle for longest, if that is ten minutes or more.

    The last resort, so that sessions which nobody uses can't shut a validator out for an hour. Should its owner come
    back after all, it is told to shake hands again and does so within the same round.
    """
    idle = (session for session in sessions if not session.in_flight and now - session.last_used >= FORGOTTEN_SECONDS)
    return min(idle, key=lambda session: (session.home, session.last_used), default=None)


def _last_used(session: Session) -> float:
    return session.last_used
