"""One thing the doctor looks at, and what it found."""

from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

import msgspec

type Status = Literal["ok", "warning", "failed", "skipped"]
type Section = Literal["system", "gpu", "engine", "miner", "chain", "network", "disk", "limits", "selftest"]

SECTIONS: Final[tuple[Section, ...]] = (
    "system",
    "disk",
    "limits",
    "gpu",
    "miner",
    "engine",
    "chain",
    "network",
    "selftest",
)
"""In the order of the report: what others stand on comes first."""


class Verdict(msgspec.Struct, frozen=True):
    """What one look gave: one line what, and one line the command or setting that mends it."""

    status: Status
    what: str
    fix: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A look at one thing. `code` never changes its meaning: scripts and documents go by it."""

    code: str
    section: Section
    title: str
    """What is looked at, for the table in docs/doctor.md."""
    look: Callable[[], Awaitable[Verdict]]
    seconds: float = 6.0
    """The look's own time-out: a second more than what it waits for, so that it can say what did not answer."""


class Checks(Protocol):
    """Some checks that belong together."""

    def checks(self) -> tuple[Check, ...]:
        """List them; nothing is looked at yet."""
        ...


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A check and its verdict, ready to be shown."""

    code: str
    section: Section
    status: Status
    what: str
    fix: str
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """All findings of one examination."""

    status: Status
    """The worst of all; `ok` when everything was skipped."""
    findings: tuple[Finding, ...]
    seconds: float


def ok(what: str) -> Verdict:
    """Nothing to mend."""
    return Verdict("ok", what)


def warning(what: str, fix: str) -> Verdict:
    """The miner works, but earns less or will stop some day."""
    return Verdict("warning", what, fix)


def failed(what: str, fix: str) -> Verdict:
    """The miner does not earn like this."""
    return Verdict("failed", what, fix)


def skipped(what: str) -> Verdict:
    """It can't be looked at here, or means nothing here; `what` says why."""
    return Verdict("skipped", what)


def parted(text: str) -> Verdict:
    """A failure out of an error's text, which says first what is wrong, and after its last colon what to do."""
    what, _, fix = text.rpartition(": ")
    return failed(what, fix) if what else failed(text, "look at the log (journalctl -u loosh-miner)")
