"""The whole way, as a validator goes it: handshake, encrypted challenge, decrypted answer."""

from typing import Final

from app.doctor.check import Check, Verdict, failed, ok, skipped
from app.doctor.engine_checks import speed
from app.doctor.running_miner import RunningMiner
from app.protocol.hotkeys import Hotkey
from app.validator.client import ReceivedAnswer, ValidatorClient
from app.validator.errors import MinerRefused, NotAnswered

_SECONDS: Final = 6.5
_TOKENS: Final = 32
_QUESTION: Final = "Name three rivers of Europe."


class SelftestChecks:
    """Sends one challenge to this machine's miner, signed by its own hotkey.

    `hotkey` is None when the key can't be used here (encrypted, or another user's).
    """

    def __init__(
        self, hotkey: Hotkey | None, running: RunningMiner, api_port: int, *, answer_seconds: float, embedded: bool
    ) -> None:
        self._hotkey = hotkey
        self._running = running
        self._url = f"http://127.0.0.1:{api_port}"
        self._answer_seconds = answer_seconds
        self._embedded = embedded

    def checks(self) -> tuple[Check, ...]:
        """List them."""
        return (
            Check(
                code="self-challenge",
                section="selftest",
                title="An encrypted challenge is answered, as a validator would ask it",
                look=self._challenge,
                seconds=_SECONDS + 0.5,
            ),
        )

    async def _challenge(self) -> Verdict:
        seen = await self._running.seen()
        if seen.health is None:
            return skipped("no miner runs")
        if not seen.health.ready:
            return skipped("the miner is not ready")
        if self._hotkey is None:
            return skipped("the hotkey can't be used here: run this as the miner's user")
        try:
            async with ValidatorClient(self._url, self._hotkey, _SECONDS) as client:
                received = await client.challenge(_payload())
        except MinerRefused as refused:
            return failed(str(refused), "see the checks above, then the miner's log")
        except NotAnswered as error:
            return failed(str(error), "look at the miner's log (journalctl -u loosh-miner)")
        return self._judge(received)

    def _judge(self, received: ReceivedAnswer) -> Verdict:
        usage = received.answer.usage
        if not received.answer.response_text:
            return failed("the answer is empty", "try another model: `loosh-miner models`")
        tokens = usage.completion_tokens if usage else 0
        said = f"answered in {received.seconds:.2f} s, {tokens} tokens"
        if not self._embedded or not tokens:
            return ok(said)
        verdict = speed(tokens / received.seconds, self._answer_seconds)
        return type(verdict)(verdict.status, f"{said}; {verdict.what}", verdict.fix)


def _payload() -> dict[str, object]:
    return {
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": _TOKENS,
        "temperature": 0.0,
        "correlation_id": "doctor",
    }
