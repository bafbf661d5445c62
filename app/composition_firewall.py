"""The composition root's part for `loosh-miner firewall`: the packet filter, and the validators that lists name."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from app.appliance.firewall import Firewall
from app.appliance.last_good_rules import LastGoodFile
from app.appliance.nftables import Nftables
from app.chain.challenge_api import ChallengeApi
from app.chain.list_origins import list_origins
from app.chain.metagraph_child import ChildMetagraph
from app.chain.networks import Subnet, subnet_of
from app.clock import Clock
from app.domain.allow_list import AllowedValidator, ListSource
from app.domain.chain_watch import permitted
from app.domain.list_refresh import TIMEOUT_SECONDS
from app.domain.merged_list import SOURCE_NAMES
from app.domain.source_list import ListedValidator, SourceList, merge
from app.errors import ChainError, FirewallRefused, SettingsError
from app.identity import resolve_identity
from app.settings import LoadedSettings, Settings
from app.state.allow_list_rows import kept_lists

_UNCHANGED: Final = "the rules in force stay as they are"


class Named(msgspec.Struct, frozen=True):
    """The validators that may be served, and what went wrong on the way to them."""

    validators: tuple[AllowedValidator, ...]
    warnings: tuple[str, ...] = ()


def build_firewall(settings: Settings, clock: Clock) -> Firewall:
    """The miner's table in this machine's packet filter; nothing is read or changed yet."""
    return Firewall(Nftables(), LastGoodFile(settings.state_dir), clock)


def kept_validators(settings: Settings, clock: Clock) -> Named:
    """Whom the running miner last read from chain and Challenge API. Errors: `FirewallRefused` without a valid list."""
    lists = _kept(settings)
    if not lists:
        raise FirewallRefused(
            f"{settings.state_dir} holds no list of validators; {_UNCHANGED}: give this command the miner's own"
            " settings (STATE_DIR), let the miner run until it has read the list, or use --fresh"
        )
    return _merged(settings, lists, clock)


def fresh_validators(loaded: LoadedSettings, clock: Clock) -> Named:
    """Ask the chain and the Challenge API now; for one that does not answer, take what is kept.

    Errors: `ChainError` when neither answers, `FirewallRefused`, `SettingsError`, `WalletError`.
    """
    with asyncio.Runner() as runner:
        return runner.run(_fresh(loaded, clock))


async def _fresh(loaded: LoadedSettings, clock: Clock) -> Named:
    settings, identity = loaded.settings, resolve_identity(loaded)
    if identity.development:
        raise SettingsError("--fresh: there is no chain in development mode: name a wallet (WALLET_NAME, HOTKEY_NAME)")
    api = ChallengeApi(settings.challenge_api_url, identity.hotkey, settings.challenge_api_key, clock)
    lists, warnings = _kept(settings), list[str]()
    # Not in STATE_DIR: this may be another user than the miner's, who could not use the files then.
    with tempfile.TemporaryDirectory(prefix="loosh-chain-") as cache:
        subnet = msgspec.structs.replace(subnet_of(settings), cache=cache)
        answers = await asyncio.gather(
            _ask("metagraph", lambda: _permitted(subnet)),
            _ask("challenge-api", api.validators),
        )
    failures = [answer for answer in answers if isinstance(answer, ChainError)]
    if len(failures) == len(answers):
        raise failures[0]
    warnings += [f"{failure}; its last list is taken, if it is not too old" for failure in failures]
    for source, answer in zip(("metagraph", "challenge-api"), answers, strict=True):
        if not isinstance(answer, ChainError):
            origin = list_origins(settings)[source]
            lists[source] = SourceList(source=source, origin=origin, fetched=clock.wall(), validators=answer)
    named = _merged(settings, lists, clock)
    return Named(named.validators, tuple(warnings))


async def _permitted(subnet: Subnet) -> tuple[ListedValidator, ...]:
    return permitted(await ChildMetagraph(subnet).metagraph())


async def _ask(
    source: ListSource, ask: Callable[[], Awaitable[tuple[ListedValidator, ...]]]
) -> tuple[ListedValidator, ...] | ChainError:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            validators = await ask()
    except ChainError as error:
        return error
    except TimeoutError:
        cause, code = f"{SOURCE_NAMES[source]} did not answer within {TIMEOUT_SECONDS:g} s", "timeout"
    else:
        if validators:
            return validators
        cause, code = f"{SOURCE_NAMES[source]} names no validator", "empty"
    return ChainError(cause, remedy="check this machine's network, NETUID and CHALLENGE_API_URL", code=code)


def _kept(settings: Settings) -> dict[ListSource, SourceList]:
    """Lists of this subnet and this Challenge API, however old."""
    origins = list_origins(settings)
    return {one.source: one for one in kept_lists(settings.state_dir) if origins.get(one.source) == one.origin}


def _merged(settings: Settings, lists: Mapping[ListSource, SourceList], clock: Clock) -> Named:
    now = clock.wall()
    if not any(one.is_valid(now) for one in lists.values()):
        raise FirewallRefused(
            f"the last list of validators is over 24 h old; {_UNCHANGED}: the miner's log says why it can't read the"
            " chain and the Challenge API; --fresh asks them now"
        )
    merged = merge(tuple(lists.values()), settings.validator_hotkeys, settings.min_validator_stake, now)
    return Named(tuple(merged.validators.values()))
