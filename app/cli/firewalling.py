"""What the `firewall` commands do once their arguments are read."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from app.appliance.firewall import Firewall, FirewallStatus
from app.clock import SystemClock
from app.composition_firewall import build_firewall, fresh_validators, kept_validators
from app.domain.firewall.ruleset import ruleset
from app.domain.firewall.sources import Sources, doubts, let_in, require_reachable
from app.settings import LoadedSettings, Settings


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The options about whom to let in."""

    fresh: bool = False
    allow_private: bool = False
    force: bool = False


class Chosen(msgspec.Struct, frozen=True):
    """Whom to let in, and what to tell the operator about it."""

    sources: Sources
    force: bool
    warnings: tuple[str, ...]


def sources(loaded: LoadedSettings, choice: Choice) -> Chosen:
    """Judge the allow-list's addresses. Errors: `FirewallRefused` when there is no list, `ChainError`."""
    settings, clock = loaded.settings, SystemClock()
    named = fresh_validators(loaded, clock) if choice.fresh else kept_validators(settings, clock)
    found = let_in(
        named.validators,
        (*settings.firewall_allow, *settings.trusted_proxies),
        allow_private=choice.allow_private,
    )
    warnings = (*loaded.warnings, *named.warnings, *doubts(found, settings.trusted_proxies))
    return Chosen(found, choice.force, warnings)


def last_good(loaded: LoadedSettings) -> Chosen:
    """Take the addresses of the rules that were last loaded. Errors: `FirewallRefused`."""
    settings = loaded.settings
    found = _firewall(settings).last_good((*settings.firewall_allow, *settings.trusted_proxies))
    return Chosen(found, force=True, warnings=loaded.warnings)


def rules(loaded: LoadedSettings, chosen: Chosen, form: Literal["nft", "json"]) -> str:
    """Write the rules in one of nft's two languages. Errors: `FirewallRefused`."""
    require_reachable(chosen.sources, force=chosen.force)
    made = ruleset(chosen.sources, _port(loaded.settings))
    return made.as_nft() if form == "nft" else made.as_json()


def apply_sources(loaded: LoadedSettings, chosen: Chosen) -> str:
    """Load the rules; gives what to say. Errors: `FirewallError`."""
    port = _port(loaded.settings)
    applied = _firewall(loaded.settings).apply(chosen.sources, port, force=chosen.force)
    count = len(chosen.sources.published)
    return f"{applied}: {count} validators' {_addresses(count)} may reach port {port}, and nobody else from outside"


def take_away(loaded: LoadedSettings) -> str:
    """Remove rules and last good ones; gives what to say. Errors: `FirewallError`."""
    there = _firewall(loaded.settings).remove()
    return "removed: anybody may reach the port again" if there else "nothing to remove"


def read_status(loaded: LoadedSettings) -> FirewallStatus:
    """What is in force. Errors: `FirewallError`."""
    return _firewall(loaded.settings).status()


def describe(found: FirewallStatus) -> str:
    """Write the status for people."""
    return "\n".join(_lines(found))


def _lines(found: FirewallStatus) -> Iterator[str]:
    match found.loaded, found.as_applied:
        case True, True:
            yield "rules      in force, as applied"
        case True, None:
            yield "rules      in force, but not applied with this STATE_DIR: run `loosh-miner firewall apply`"
        case True, _:
            yield "rules      changed by hand since they were applied: run `loosh-miner firewall apply`"
        case _:
            yield "rules      none: anybody may reach the port; `loosh-miner firewall apply` loads them"
    if table := found.table:
        yield f"port       {table.port}"
        yield f"let in     {table.v4} IPv4 and {table.v6} IPv6 addresses or networks"
        yield f"dropped    {table.dropped_packets} packets, {table.dropped_bytes} bytes since they were loaded"
    if found.applied_seconds_ago is not None and found.kept_addresses is not None:
        kept = f"{found.kept_addresses} validators' {_addresses(found.kept_addresses)}"
        yield f"last good  {kept}, loaded {_ago(found.applied_seconds_ago)} ago"


def _addresses(count: int) -> str:
    return "address" if count == 1 else "addresses"


def _ago(seconds: float) -> str:
    minute, hour, day = 60, 3600, 86400
    if seconds < 2 * minute:
        return f"{seconds:.0f} s"
    if seconds < 2 * hour:
        return f"{seconds / minute:.0f} min"
    return f"{seconds / hour:.0f} h" if seconds < 2 * day else f"{seconds / day:.0f} days"


def _port(settings: Settings) -> int:
    return settings.firewall_port or settings.api_port


def _firewall(settings: Settings) -> Firewall:
    return build_firewall(settings, SystemClock())
