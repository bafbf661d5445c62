"""Random lives of a miner against a simple model of sessions, nonces, ciphertexts and the clock."""

import os
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from app.errors import Refusal
from app.protocol.hotkeys import Hotkey
from app.protocol.sessions import Session
from app.protocol.validator import ClientSession, ValidatorSide
from tests.protocol.support import Clock, Miner, anyone

HOTKEYS = [Hotkey.from_seed(bytes([number]) * 32) for number in (1, 2, 3)]
SOURCES = ["192.0.2.1", "198.51.100.1", "203.0.113.1"]
HOME = SOURCES[0]
PER_HOTKEY = 3
TOTAL = 6
WINDOW = 60.0
TTL = 3600.0


def is_home(_: str, source: str) -> bool:
    return source == HOME


@dataclass(frozen=True)
class Shake:
    """One key exchange as it went over the wire, and when it was signed."""

    body: bytes
    client: ClientSession
    signed: float


@dataclass(frozen=True)
class Token:
    shake: Shake
    text: bytes
    sealed: int


@dataclass
class Known:
    """What the model knows of a live session."""

    session: Session
    source: str
    used: float
    busy: int = 0


class Life(RuleBasedStateMachine):
    shakes = Bundle("shakes")
    tokens = Bundle("tokens")
    held = Bundle("held")

    @initialize()
    def start(self) -> None:
        self.clock = Clock()
        self.miner = Miner(self.clock, per_hotkey=PER_HOTKEY, total=TOTAL)
        self.started = self.clock.now - self.miner.running_for
        self.before: dict[str, float] = {}
        self.used: set[bytes] = set()
        self.live: dict[str, Known] = {}
        self.seen: set[bytes] = set()

    @rule(
        target=shakes, hotkey=st.sampled_from(HOTKEYS), skew=st.sampled_from([0.0, 0.0, 0.0, -55.0, 55.0, -65.0, 65.0])
    )
    def sign(self, hotkey: Hotkey, skew: float) -> Shake:
        signed = self.clock.now + skew
        body, client = ValidatorSide(hotkey, lambda: signed, os.urandom).key_exchange(self.miner.keyring.public_pem)
        return Shake(body, client, signed)

    @rule(shake=shakes, source=st.sampled_from(SOURCES))
    def shake_hands(self, shake: Shake, source: str) -> None:
        """New ones, and old ones over and over."""
        self.forget_expired()
        before = dict(self.live)
        fresh = self.is_fresh(shake)
        new = shake.body not in self.used
        session = self.accepted(shake, source)
        if isinstance(session, Refusal):
            reason = "stale" if not fresh else "sessions_full" if new else "nonce"
            assert session.reason == reason
            if reason == "sessions_full":
                assert self.is_full(shake.client.hotkey)
                assert not any(self.may_go(known, shake.client.hotkey, source) for known in before.values())
                self.used.add(shake.body)
            return
        assert fresh
        assert new
        self.used.add(shake.body)
        gone = [known for uuid, known in before.items() if not self.is_there(uuid, known)]
        assert len(gone) == int(self.is_full(shake.client.hotkey))
        for known in gone:
            assert self.may_go(known, shake.client.hotkey, source)
            del self.live[known.session.uuid]
        self.live[session.uuid] = Known(session, source, self.clock.now)

    def is_fresh(self, shake: Shake) -> bool:
        if shake.signed <= self.before.get(shake.client.hotkey, 0.0):
            return False
        return abs(self.clock.now - shake.signed) <= WINDOW and shake.signed >= self.started

    def accepted(self, shake: Shake, source: str) -> Session | Refusal:
        try:
            return self.miner.handshakes.accept(shake.body, source, anyone, is_home)
        except Refusal as refusal:
            return refusal

    def is_full(self, hotkey: str) -> bool:
        return (
            len(self.live) >= TOTAL or sum(known.session.hotkey == hotkey for known in self.live.values()) >= PER_HOTKEY
        )

    def is_there(self, uuid: str, known: Known) -> bool:
        return known.session in self.miner.sessions.of(known.session.hotkey) and known.session.uuid == uuid

    def may_go(self, leaver: Known, hotkey: str, source: str) -> bool:
        """Whether a newcomer of that hotkey and source may end this session."""
        mine = [known for known in self.live.values() if known.session.hotkey == hotkey]
        if leaver not in mine or leaver.busy:
            return False
        same = [known for known in mine if known.source == source]
        idle = [known for known in same if not known.busy]
        if idle:
            return leaver in idle and leaver.used == min(known.used for known in idle)
        if source == HOME:
            return True
        shared = sum(known.source == leaver.source for known in mine) > 1
        return not same and shared and leaver.source != HOME

    @rule(target=tokens, shake=shakes, ahead=st.sampled_from([0, 0, 0, 60, 61, -120, -121]))
    def seal(self, shake: Shake, ahead: int) -> Token:
        sealed = int(self.clock.now) + ahead
        return Token(shake, shake.client.key.seal(os.urandom(8), sealed), sealed)

    @rule(token=tokens)
    def ask(self, token: Token) -> None:
        """New ciphertexts, and old ones over and over."""
        self.forget_expired()
        client = token.shake.client
        known = self.live.get(client.uuid)
        age = int(self.clock.now) - token.sealed
        refusal = self.opened(token)
        if known is None:
            assert refusal is not None
            assert refusal.status == 401
        elif not -60 <= age <= 120:
            assert refusal is not None
            assert refusal.reason == "token_age"
        elif token.text in self.seen:
            assert refusal is not None
            assert refusal.status == 409
        else:
            assert refusal is None
            self.seen.add(token.text)
            known.used = self.clock.now

    def opened(self, token: Token) -> Refusal | None:
        client = token.shake.client
        try:
            self.miner.sessions.get(client.uuid, client.hotkey).open(token.text, self.clock.now)
        except Refusal as refusal:
            return refusal
        return None

    @rule(target=held, shake=shakes)
    def begin(self, shake: Shake) -> Session | None:
        known = self.live.get(shake.client.uuid)
        if known is None:
            return None
        known.session.begin()
        known.busy += 1
        return known.session

    @rule(session=consumes(held))
    def end(self, session: Session | None) -> None:
        if session is None:
            return
        session.end()
        known = self.live.get(session.uuid)
        if known is not None and known.session is session:
            known.busy -= 1

    @rule(seconds=st.sampled_from([0.001, 1.0, 1.0, 29.5, 60.0, 61.0, 120.0, 600.0, 3540.0, 3600.0, 1e6]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(seconds=st.sampled_from([1.0, 61.0]))
    def restart(self, seconds: float) -> None:
        self.clock.now += seconds
        self.miner = self.miner.restarted()
        self.started = self.clock.now
        self.before = dict(self.miner.ahead)
        self.live.clear()

    def forget_expired(self) -> None:
        for uuid in [uuid for uuid, known in self.live.items() if known.session.created + TTL <= self.clock.now]:
            del self.live[uuid]

    @invariant()
    def within_bounds(self) -> None:
        assert len(self.miner.sessions) <= TOTAL
        for hotkey in HOTKEYS:
            mine = self.miner.sessions.of(hotkey.ss58)
            assert len(mine) <= PER_HOTKEY
            assert all(session.hotkey == hotkey.ss58 for session in mine)

    @invariant()
    def what_the_model_holds_is_there(self) -> None:
        self.forget_expired()
        for uuid, known in self.live.items():
            assert self.miner.sessions.get(uuid, known.session.hotkey) is known.session
            assert known.session.in_flight == known.busy


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
