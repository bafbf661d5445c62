"""What is written down of each request: numbers, fixed words and hotkeys, never content (threat 18)."""

from typing import Final, Literal

import msgspec
import structlog

from app.clock import Clock
from app.domain.answering import Answered
from app.domain.challenge_log import ChallengeLog, ChallengeRecord
from app.domain.last_answer import LastAnswer
from app.errors import Refusal
from app.metrics import Metrics, Outcome
from app.protocol.sessions import Session

_FAILURES: Final = frozenset({"backend", "empty"})
_ROUND_SECONDS: Final = 60.0


class CompletionEnd(msgspec.Struct, kw_only=True):
    """How one of the operator's own requests ended; times are seconds."""

    outcome: Literal["ok", "cut", "refused", "failed", "gone"] = "gone"
    """`gone`: the client left."""
    stream: bool
    seconds: float = 0.0
    queued: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Journal:
    """Counts and logs; one log line for each challenge and each handshake, and a record for each challenge."""

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        last_answer: LastAnswer | None = None,
        challenges: ChallengeLog | None = None,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._last_answer = last_answer
        self._challenges = challenges
        self._log = structlog.get_logger("app.requests")

    def handshake(self, session: Session, *, elsewhere: bool) -> None:
        """A session was agreed on; `elsewhere`: not from an address that the validator has published (threat 2)."""
        self._metrics.handshake(accepted=True)
        if elsewhere:
            self._metrics.handshake_elsewhere()
        self._log.info("handshake", hotkey=session.hotkey, source=session.source, elsewhere=elsewhere)

    def handshake_refused(self, refusal: Refusal, source: str) -> None:
        """A handshake was refused; the cause stays here, the caller is told one text for all."""
        self._metrics.handshake(accepted=False)
        self._log.info("handshake refused", cause=refusal.reason, source=source)

    def answered(self, answered: Answered, hotkey: str) -> None:
        """A challenge was answered, in whole or cut."""
        usage = answered.answer.usage
        outcome: Outcome = "cut" if answered.cut else "ok"
        if answered.seconds > _ROUND_SECONDS:
            outcome = "late"
        elif self._last_answer is not None:
            self._last_answer.answered()
        self._metrics.challenge(outcome)
        self._metrics.answered(
            seconds=answered.seconds,
            first_token=answered.first_token_seconds,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        seconds, queued = round(answered.seconds, 3), round(answered.queued_seconds, 3)
        if self._challenges is not None:
            first_token = answered.first_token_seconds
            self._challenges.add(
                ChallengeRecord(
                    self._clock.wall(),
                    hotkey,
                    outcome,
                    "",
                    seconds,
                    queued,
                    None if first_token is None else round(first_token, 3),
                    usage.prompt_tokens,
                    usage.completion_tokens,
                )
            )
        self._log.info(
            "challenge answered",
            hotkey=hotkey,
            outcome=outcome,
            seconds=seconds,
            queued=queued,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )

    def completion(self, ended: CompletionEnd) -> None:
        """One of the operator's own requests ended."""
        self._metrics.completion(ended.outcome)
        self._log.info("completion", **msgspec.structs.asdict(ended))

    def refused(self, refusal: Refusal, hotkey: str) -> None:
        """A challenge was not answered: refused by a rule, or failed because the engine did."""
        outcome: Outcome = "failed" if refusal.reason in _FAILURES else "refused"
        self._metrics.challenge(outcome)
        self._record(hotkey, outcome, refusal.reason)
        self._log.info("challenge refused", hotkey=hotkey, cause=refusal.reason, status=refusal.status)

    def gone(self, hotkey: str) -> None:
        """The validator closed the connection before its answer was written."""
        self._metrics.challenge("gone")
        self._record(hotkey, "gone", "client_gone")
        self._log.info("challenge given up", hotkey=hotkey, cause="client_gone")

    def _record(self, hotkey: str, outcome: Outcome, reason: str) -> None:
        if self._challenges is not None:
            self._challenges.add(ChallengeRecord(self._clock.wall(), hotkey, outcome, reason))
