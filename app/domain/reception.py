"""What happens to a handshake and to a challenge, gate by gate, cheapest first (design decisions 6 and 7)."""

import asyncio
from collections.abc import Callable

import msgspec

from app.clock import Clock
from app.domain.access import Access
from app.domain.answer import Answer, encode_answer
from app.domain.answering import Answered, Answering
from app.domain.challenge import ChallengeReader
from app.domain.deadline import Deadline
from app.domain.journal import Journal
from app.errors import NotAllowed, Refusal, SessionRefused
from app.protocol.handshake import Handshakes
from app.protocol.sessions import Session, SessionTable


class SealedChallenge(msgspec.Struct, frozen=True):
    """A challenge as it came: who says to have sent it, under which session, and the Fernet token."""

    hotkey: str
    session: str
    token: bytes


class Reception:
    """The way of a request through the gates, to its answer and back out, sealed."""

    def __init__(
        self,
        access: Access,
        handshakes: Handshakes,
        sessions: SessionTable,
        answering: Answering,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._access = access
        self._handshakes = handshakes
        self._sessions = sessions
        self._answering = answering
        self._journal = journal
        self._clock = clock
        self._reader = ChallengeReader()
        self._encoder = msgspec.json.Encoder()

    def shake_hands(self, body: bytes, source: str) -> None:
        """Accept a handshake (protocol, section 2).

        Errors: `ContentRefused`, `NotAllowed`, `HandshakeRefused`, `RateLimited`, `Unavailable`.
        """
        try:
            session = self._handshakes.accept(
                body, source, self._may_shake_hands(source), self._access.is_home, self._access.spend_hotkey
            )
        except Refusal as refusal:
            self._journal.handshake_refused(refusal, source)
            raise
        self._access.shook_hands(session.hotkey, source)
        self._journal.handshake(session, elsewhere=self._access.is_elsewhere(session.hotkey, source))

    def expects(self, hotkey: str | None, session: str | None) -> bool:
        """Whether a challenge of this hotkey under this session can be opened: what it brings is worth keeping.

        Nothing is spent and nothing refused here; `challenge` says why a challenge is refused.
        """
        if hotkey is None or session is None or not self._access.allows(hotkey):
            return False
        try:
            self._sessions.get(session, hotkey)
        except SessionRefused:
            return False
        return True

    def expects_plain(self, hotkey: str) -> bool:
        """Whether a challenge in plaintext from this hotkey is answered."""
        return self._access.allows(hotkey)

    async def challenge(self, sealed: SealedChallenge, deadline: Deadline) -> bytes:
        """The sealed answer to a sealed challenge (protocol, section 3). Errors: any `Refusal`."""
        session = self._session(sealed)
        plaintext = session.open(sealed.token, self._clock.wall())
        self._access.spend_session(session.uuid)
        with session:
            answered = await self._answer(plaintext, deadline, session.hotkey, session.uuid)
        return session.seal(self._encode(answered.answer), self._clock.wall())

    async def plain(self, body: bytes, hotkey: str, deadline: Deadline) -> bytes:
        """The answer to a challenge that came in plaintext (protocol, section 4). Errors: any `Refusal`."""
        if not self._access.allows(hotkey):
            raise NotAllowed("this hotkey is not an allowed validator of this subnet")
        answered = await self._answer(body, deadline, hotkey, "plain")
        return self._encode(answered.answer)

    def _may_shake_hands(self, source: str) -> Callable[[str], bool]:
        return lambda hotkey: self._access.allows_handshake(hotkey, source)

    def _session(self, sealed: SealedChallenge) -> Session:
        if not self._access.allows(sealed.hotkey):
            raise NotAllowed("this hotkey is not an allowed validator of this subnet")
        return self._sessions.get(sealed.session, sealed.hotkey)

    async def _answer(self, plaintext: bytes, deadline: Deadline, hotkey: str, owner: str) -> Answered:
        try:
            challenge = self._reader.read(plaintext)
            answered = await self._answering.answer(challenge, deadline, owner)
        except Refusal as refusal:
            self._journal.refused(refusal, hotkey)
            raise
        except asyncio.CancelledError:
            self._journal.gone(hotkey)
            raise
        self._journal.answered(answered, hotkey)
        return answered

    def _encode(self, answer: Answer) -> bytes:
        return encode_answer(self._encoder, answer)
