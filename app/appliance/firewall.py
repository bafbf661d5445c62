"""The validators-only firewall: load the rules when they changed, keep those that were good, take them away."""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from app.appliance.last_good_rules import LastGood, LastGoodFile
from app.appliance.nftables import LoadedTable, Nftables
from app.clock import Clock
from app.domain.firewall.ruleset import ruleset
from app.domain.firewall.sources import Network, Sources, let_in, require_reachable
from app.errors import FirewallRefused

Applied = Literal["loaded", "unchanged"]


class FirewallStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force. `as_applied` is None when nothing is loaded or nothing was applied from here."""

    loaded: bool
    as_applied: bool | None
    table: LoadedTable | None
    kept_addresses: int | None
    """Validators' addresses that the next boot would load."""
    applied_seconds_ago: float | None

    @property
    def good(self) -> bool:
        """Whether the rules are in force as they were applied."""
        return self.loaded and self.as_applied is True


class _Restored(msgspec.Struct, frozen=True):
    """The last good addresses, in the shape of a validator."""

    hotkey: str
    addresses: tuple[str, ...]


class Firewall:
    """The miner's own table in the packet filter. Errors: `FirewallError`; then the rules in force are as before."""

    def __init__(self, nftables: Nftables, kept: LastGoodFile, clock: Clock) -> None:
        self._nftables = nftables
        self._kept = kept
        self._clock = clock

    def apply(self, sources: Sources, port: int, *, force: bool = False) -> Applied:
        """Let `sources` reach `port`, and nobody else. Errors also: `FirewallRefused`, as `require_reachable` says."""
        require_reachable(sources, force=force)
        text = ruleset(sources, port).as_nft()
        wanted, last_good, listing = _digest(text), self._kept.read(), self._nftables.listing()
        if (
            listing is not None
            and last_good is not None
            and (last_good.ruleset, last_good.listing) == (wanted, _digest(listing))
            and last_good.addresses == sources.published
        ):
            return "unchanged"
        self._kept.require_place()
        self._nftables.load(text)
        self._kept.write(
            LastGood(
                applied=self._clock.wall(),
                addresses=sources.published,
                ruleset=wanted,
                listing=_digest(self._nftables.listing() or ""),
            )
        )
        return "loaded"

    def last_good(self, always: Iterable[Network]) -> Sources:
        """Those who were let in last, for a start without chain or network. Errors also: `FirewallRefused`."""
        last_good = self._kept.read()
        if last_good is None:
            raise FirewallRefused(
                f"{self._kept.path} has no rules that were good before; the rules in force stay as they are:"
                " run `loosh-miner firewall apply` once"
            )
        # They were judged when they were applied, with a flag that is not known here: private ones pass.
        return let_in([_Restored("last good", last_good.addresses)], always, allow_private=True)

    def remove(self) -> bool:
        """Take the table away and forget the last good rules; whether there was anything."""
        loaded = self._nftables.listing() is not None
        if loaded:
            self._nftables.remove()
        forgotten = self._kept.forget()
        return loaded or forgotten

    def status(self) -> FirewallStatus:
        """What is in force now."""
        listing, last_good = self._nftables.listing(), self._kept.read()
        as_applied = listing is not None and last_good is not None and _digest(listing) == last_good.listing
        return FirewallStatus(
            loaded=listing is not None,
            as_applied=as_applied if listing is not None and last_good is not None else None,
            table=self._nftables.table(),
            kept_addresses=len(last_good.addresses) if last_good else None,
            applied_seconds_ago=max(0.0, round(self._clock.wall() - last_good.applied, 1)) if last_good else None,
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
