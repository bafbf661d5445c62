"""What the operator is shown of each allowed validator."""

from collections.abc import Iterable

import msgspec

from app.domain.allow_list import AllowedValidator, ListSource
from app.protocol.handshake import Handshakes
from app.protocol.sessions import SessionTable


class ValidatorReport(msgspec.Struct, frozen=True, kw_only=True):
    """One validator. Stake in TAO; `last_seen` in unix seconds; the skew is how far its clock is ahead of ours."""

    hotkey: str
    sources: tuple[ListSource, ...]
    stake: float | None = None
    addresses: tuple[str, ...] = ()
    last_seen: float | None = None
    clock_skew_seconds: float | None = None
    sessions: int = 0


class ValidatorsReport(msgspec.Struct, frozen=True):
    """All validators, the highest stake first. `live`: from the running miner, else from its list on disk."""

    live: bool
    validators: tuple[ValidatorReport, ...]


def kept_validators(validators: Iterable[AllowedValidator]) -> ValidatorsReport:
    """Report what lists say, without a miner that has seen any of them."""
    return ValidatorsReport(live=False, validators=tuple(map(_listed, validators)))


def live_validators(
    validators: Iterable[AllowedValidator], handshakes: Handshakes, sessions: SessionTable
) -> ValidatorsReport:
    """Report what lists say, and what this process has seen."""
    return ValidatorsReport(live=True, validators=tuple(_seen(one, handshakes, sessions) for one in validators))


def _listed(one: AllowedValidator) -> ValidatorReport:
    return ValidatorReport(hotkey=one.hotkey, sources=one.sources, stake=one.stake, addresses=one.addresses)


def _seen(one: AllowedValidator, handshakes: Handshakes, sessions: SessionTable) -> ValidatorReport:
    skew = handshakes.skews.get(one.hotkey)
    held = sessions.of(one.hotkey)
    moments = [session.last_used for session in held] + ([] if skew is None else [skew.seen])
    return msgspec.structs.replace(
        _listed(one),
        last_seen=max(moments, default=None),
        clock_skew_seconds=None if skew is None else round(skew.seconds, 3),
        sessions=len(held),
    )
