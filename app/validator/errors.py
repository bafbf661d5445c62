"""Why a challenge that we sent as a validator got no answer. Light to import: the command line needs it at once.

::

    MinerError
    └── NotAnswered
        ├── MinerUnreachable   nothing listens there, or the connection broke
        ├── MinerSilent        no answer in time
        ├── MinerNotReady      it says itself that it is not available
        ├── MinerRefused       a status other than 200
        └── AnswerUnreadable   200, but not what protocol.md says
"""

from app.errors import MinerError


class NotAnswered(MinerError):
    """The miner gave no answer; `label` is a short word for a summary."""

    label = "failed"


class MinerUnreachable(NotAnswered):
    """Nothing listens, or the connection broke."""

    label = "unreachable"


class MinerSilent(NotAnswered):
    """No answer within the time."""

    label = "timeout"


class MinerNotReady(NotAnswered):
    """`/availability` says `false`."""

    label = "not ready"


class MinerRefused(NotAnswered):
    """A status other than 200; `detail` is the miner's own text."""

    def __init__(self, step: str, status: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{step}: the miner refused with {status}: {detail or 'no reason given'}")
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.label = str(status)


class AnswerUnreadable(NotAnswered):
    """The answer does not decrypt, or lacks what a validator relies on."""

    label = "unreadable"
