"""The composition root's part for who may call: the allow-list, what keeps it fresh, and what watches the chain."""

import random
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from app.chain.challenge_api import ChallengeApi
from app.chain.list_origins import list_origins
from app.chain.metagraph_child import ChildMetagraph
from app.chain.networks import subnet_of
from app.chain.own_endpoint import Endpoint
from app.clock import Clock
from app.domain.alarms import AlarmBoard
from app.domain.chain_watch import ChainWatch, MetagraphValidators
from app.domain.challenge_log import ChallengeLog
from app.domain.last_answer import LastAnswer
from app.domain.list_refresh import ListRefresh, ListRefreshes
from app.domain.merged_list import MergedAllowList
from app.domain.metagraph import Axon
from app.domain.recent import WINDOW_SECONDS, Recent
from app.domain.source_list import ValidatorSource
from app.errors import ChainError
from app.identity import Identity
from app.metrics import Metrics
from app.protocol.sessions import SessionTable
from app.settings import LoadedSettings, Settings
from app.state.allow_list_rows import AllowListRows
from app.state.challenge_rows import ChallengeRows
from app.state.database import Database
from app.state.moments import Moment

_UNKNOWN: Final = float("nan")


class Calling(msgspec.Struct, frozen=True):
    """Who may call, and all that goes with it."""

    allow_list: MergedAllowList
    refreshes: tuple[ListRefresh, ...]
    rows: AllowListRows
    watch: ChainWatch | None
    last_answer: LastAnswer
    challenges: ChallengeLog
    recent: Recent
    alarms: AlarmBoard
    database: Database

    async def keep_fresh(self) -> None:
        """Read the lists again and again."""
        await ListRefreshes(self.refreshes, self.rows).run()

    async def close(self) -> None:
        """Keep what is to outlive the process."""
        await self.last_answer.keep()
        await self.challenges.keep()
        await self.database.close()


def build_calling(
    loaded: LoadedSettings, identity: Identity, sessions: SessionTable, metrics: Metrics, clock: Clock
) -> Calling:
    """Put it together; nothing runs yet, no file is opened."""
    settings = loaded.settings
    database = Database(settings.state_dir, clock)
    rows = AllowListRows(database)
    watch = None
    if not identity.development:
        watch = ChainWatch(identity.hotkey.ss58, settings.netuid, settings.subtensor_network, clock)
    sources = _sources(settings, identity, watch, clock)

    def removed(hotkeys: Collection[str]) -> None:
        for hotkey in hotkeys:
            sessions.end_all(hotkey)

    allow_list = MergedAllowList(
        clock,
        sources=[source.source for source in sources],
        hotkeys=settings.validator_hotkeys,
        least_stake=settings.min_validator_stake,
        everybody=_serves_everybody(loaded, identity),
        removed=removed,
    )
    refreshes = tuple(
        ListRefresh(
            source,
            allow_list,
            rows,
            clock,
            interval=settings.allow_list_refresh_seconds,
            chance=random.random,
            failed=metrics.refresh_failed,
        )
        for source in sources
    )
    last_answer = LastAnswer(Moment(database, "last answer"), clock)
    recent = Recent(clock)
    challenges = ChallengeLog(ChallengeRows(database), clock, recent.take, recall_seconds=WINDOW_SECONDS)
    watched = () if watch is None else (watch.alarms, last_answer.alarms)
    alarms = AlarmBoard(*watched, *(refresh.alarms for refresh in refreshes), database.alarms)
    calling = Calling(allow_list, refreshes, rows, watch, last_answer, challenges, recent, alarms, database)
    _watch(metrics, calling)
    return calling


def _sources(
    settings: Settings, identity: Identity, watch: ChainWatch | None, clock: Clock
) -> tuple[ValidatorSource, ...]:
    if watch is None:
        return ()
    origins = list_origins(settings)
    chain = ChildMetagraph(subnet_of(settings))
    return (
        MetagraphValidators(chain, watch, origins["metagraph"], find_own_axon(settings)),
        ChallengeApi(origins["challenge-api"], identity.hotkey, settings.challenge_api_key, clock),
    )


def _serves_everybody(loaded: LoadedSettings, identity: Identity) -> bool:
    """In development mode nobody is asked for, unless the operator asks."""
    settings = loaded.settings
    if not settings.enable_validator_whitelist:
        return True
    asked_for = loaded.explicit("ENABLE_VALIDATOR_WHITELIST") or settings.validator_hotkeys
    return identity.development and not asked_for


def find_own_axon(settings: Settings) -> Callable[[Axon | None], Awaitable[Axon | None]]:
    """Give what finds this miner's address, as far as it can be known; it is told what is posted."""
    endpoint = Endpoint(settings, address=None, port=None, allow_local=True)

    async def ours(posted: Axon | None) -> Axon | None:
        try:
            return await endpoint.find(posted)
        except ChainError:  # `register` says why; here it only means that there is nothing to compare with
            return None

    return ours


def _watch(metrics: Metrics, calling: Calling) -> None:
    allow_list, last_answer = calling.allow_list, calling.last_answer
    metrics.watch("loosh_allow_list_validators", "Validators named", lambda: len(allow_list.validators()))
    metrics.watch("loosh_alarms", "Alarms there are now", lambda: len(calling.alarms.current()))
    metrics.watch(
        "loosh_last_answer_age_seconds",
        "Since the last answer, or since the start",
        lambda: last_answer.report().waited_seconds,
    )
    metrics.watch_each(
        "loosh_allow_list_age_seconds",
        "Since the list was last read; NaN: never",
        "source",
        {refresh.source: lambda refresh=refresh: _number(refresh.age()) for refresh in calling.refreshes},
    )
    watch = calling.watch
    if watch is None:
        return
    metrics.watch("loosh_chain_block", "Of the last metagraph", lambda: _number(watch.report().block))
    metrics.watch("loosh_chain_registered", "1 when the hotkey has a UID", lambda: _number(watch.report().registered))
    metrics.watch(
        "loosh_axon_matches",
        "1 when the posted axon leads here, NaN when that is not known",
        lambda: _number(watch.report().axon_matches),
    )


def _number(value: float | None) -> float:
    return _UNKNOWN if value is None else float(value)
