"""Every exception the miner raises on purpose.

::

    MinerError
    ├── SettingsError            the start is refused: a setting is unknown, wrong or contradicts another
    ├── WalletError              the hotkey can't be used: which file, what is wrong, what to do
    ├── ChainError               the chain, or the Challenge API, did not give or take what was asked
    ├── FirewallError            the packet filter can't be used: what is missing, what to do
    │   └── FirewallRefused      loading would lock validators out; the rules in force stay as they are
    ├── ComputeFileError         min_compute.yml, a recording or models.lock.json can't be used: file, place, value
    ├── NothingFits              no engine profile is possible on this machine, with the arithmetic
    ├── AlertError               an alert was not taken by ALERT_WEBHOOK_URL
    ├── StateError               what is kept in STATE_DIR can't be read: which file, what to do
    ├── DownloadError            weights could not be fetched, or are not what they should be
    ├── BackendError             the engine did not do its part
    │   ├── BackendUnavailable   not reachable, not loaded, or wedged: nobody's request is at fault
    │   └── BackendRejected      the engine read the request and refused it
    │       └── PromptTooLong    because the prompt fills the model's context
    └── Refusal                  a request that gets a status other than 200
        ├── HandshakeRefused     400, one text for every cause
        ├── ParameterRefused     400, with the parameter's name (only below /v1)
        ├── SessionRefused       401, with the public key: shake hands again
        ├── KeyRefused           401, the API key is missing or wrong (only below /v1)
        ├── NotAllowed           403
        ├── ModelUnknown         404 (only below /v1)
        ├── BodyTooSlow          408
        ├── Replayed             409
        ├── BodyTooLarge         413
        ├── EncodingUnsupported  415
        ├── ContentRefused       422
        ├── RateLimited          429, with Retry-After
        └── Unavailable          503, with Retry-After

Only `app.transport` turns a `Refusal` into HTTP; `status` stands here because protocol.md gives it
with the rule (sections 2 and 3), so that the rule and its answer are read in one place.
"""

from typing import ClassVar, Final

RETRY_AFTER_SECONDS: Final = 5


class MinerError(Exception):
    """Base of all errors raised on purpose; its text is written for an operator."""


class SettingsError(MinerError):
    """The settings can't work; `problems` holds one clear line for each fault found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class WalletError(MinerError):
    """The hotkey can't be read or used."""


class ChainError(MinerError):
    """The chain or the Challenge API did not do what was asked; `remedy` is what the operator can do about it.

    `code` is a fixed word, fit for `--json` and for a metric's label: `unreachable`, `timeout`, `not_registered`...
    """

    def __init__(self, cause: str, *, remedy: str, code: str) -> None:
        super().__init__(f"{cause}: {remedy}")
        self.cause = cause
        self.remedy = remedy
        self.code = code


class FirewallError(MinerError):
    """The packet filter can't be read or changed; nothing was changed."""


class FirewallRefused(FirewallError):
    """The rules asked for would lock validators out; the rules in force stay as they are."""


class ComputeFileError(MinerError):
    """A file about models or machines can't be used; `problems` holds one line for each fault found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NothingFits(MinerError):
    """No engine profile is possible; one line for each reason."""


class DownloadError(MinerError):
    """Weights could not be fetched, or are not what they should be; says what to do."""


class AlertError(MinerError):
    """An alert was not taken by the address that it was sent to."""


class StateError(MinerError):
    """What is kept in STATE_DIR can't be read."""


class BackendError(MinerError):
    """The engine did not do its part."""


class BackendUnavailable(BackendError):
    """The engine is not reachable, not loaded or wedged."""


class BackendRejected(BackendError):
    """The engine read the request and refused it; the text may be shown to the validator."""


class PromptTooLong(BackendRejected):
    """The prompt leaves no room for an answer in the model's context."""


class Refusal(MinerError):
    """A request that is not answered with 200.

    `reason` is a fixed word, fit for a metric's label; `detail` is what the caller reads. Neither ever
    holds anything of the request's content (threats.md row 18).
    """

    status: ClassVar[int] = 500
    reason: str = "refused"

    def __init__(self, detail: str, *, reason: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        if reason is not None:
            self.reason = reason


class HandshakeRefused(Refusal):
    """The handshake does not verify or decrypt. Callers see one text whatever the cause (threats.md row 23)."""

    status = 400
    reason = "handshake"
    TEXT: ClassVar[str] = "handshake refused: check clock, signature and the miner's public key, then shake hands again"

    def __init__(self, *, reason: str) -> None:
        super().__init__(self.TEXT, reason=reason)


class ParameterRefused(Refusal):
    """An OpenAI request that can't be done; `param` names what is at fault, `code` is a fixed word for programs."""

    status = 400
    reason = "parameter"

    def __init__(self, detail: str, *, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(detail)
        self.param = param
        self.code = code


class SessionRefused(Refusal):
    """Unknown or expired session, or a token that does not open: the validator shakes hands again (protocol.md 3)."""

    status = 401
    reason = "session"


class NotAllowed(Refusal):
    """The hotkey, or the source, may not call this."""

    status = 403
    reason = "not_allowed"


class KeyRefused(Refusal):
    """The API key is missing or is another one."""

    status = 401
    reason = "api_key"


class ModelUnknown(Refusal):
    """The miner serves no model of this name."""

    status = 404
    reason = "model"


class BodyTooSlow(Refusal):
    """The body did not arrive in time, or at less than the least rate."""

    status = 408
    reason = "slow_body"


class Replayed(Refusal):
    """The same ciphertext came before."""

    status = 409
    reason = "replay"


class BodyTooLarge(Refusal):
    """The body is over the route's limit."""

    status = 413
    reason = "large_body"


class EncodingUnsupported(Refusal):
    """A Content-Encoding other than identity."""

    status = 415
    reason = "encoding"


class ContentRefused(Refusal):
    """Readable, but not something the miner can answer."""

    status = 422
    reason = "content"


class RateLimited(Refusal):
    """Over a rate limit; `retry_after` says when to come back, in seconds."""

    status = 429
    reason = "rate"


class Unavailable(Refusal):
    """Loading, draining, full, or the engine is down; `retry_after` is in seconds."""

    status = 503
    reason = "unavailable"

    def __init__(self, detail: str, *, reason: str | None = None, retry_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(detail, reason=reason, retry_after=retry_after)
