"""The composition root: the only place that knows all parts, and how they are put together from the settings."""

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import msgspec

from app import __version__
from app.admin_token import write_admin_token
from app.ahead_file import AheadFile
from app.appliance.hardware.gpu_figures import GpuWatch
from app.clock import Clock, SystemClock
from app.composition_calling import Calling, build_calling
from app.domain.access import Access, RouteLimit
from app.domain.admission import Admission
from app.domain.alarms import Alarm
from app.domain.alerting import Alerting, troubles
from app.domain.answering import Answering, GenerationDefaults
from app.domain.backend import Backend
from app.domain.completion import Completing
from app.domain.health import Health
from app.domain.health_detail import AdmissionState, HealthDetail
from app.domain.journal import Journal
from app.domain.overview import Overviews
from app.domain.probing import Probing
from app.domain.reception import Reception
from app.domain.token_rate import TokenRate
from app.domain.validator_report import ValidatorsReport, live_validators
from app.engines import build_backend, embedded_parallel, model_in_process
from app.identity import Identity
from app.metrics import Metrics
from app.miner import Miner
from app.protocol.handshake import Handshakes
from app.protocol.replay import NonceMemory
from app.protocol.rsa_keys import RsaKeyring
from app.protocol.sessions import SessionTable
from app.serve_events import ServeScreen, StartFacts
from app.settings import LoadedSettings, RateLimit, Settings
from app.transport import openai_errors
from app.transport.admin import AdminRoutes
from app.transport.apps import admin_app, public_app
from app.transport.caller import Callers
from app.transport.dashboard_routes import DashboardRoutes
from app.transport.failures import failure_responses
from app.transport.gate import SourceGate
from app.transport.listeners import Address, Listener
from app.transport.openai_routes import OpenAiRoutes
from app.transport.public import AnswerTimes, PublicRoutes
from app.webhook import Webhook

_PROBE_RETRY_SECONDS: Final = 0.5
_LOOPBACK: Final = "127.0.0.1"


class Wire(msgspec.Struct, frozen=True):
    """The protocol layer's memory: keys, sessions, and what was seen before."""

    keyring: RsaKeyring
    sessions: SessionTable
    handshakes: Handshakes


class Core(msgspec.Struct, frozen=True):
    """What answers, and what says whether it can."""

    backend: Backend
    probing: Probing
    admission: Admission
    access: Access
    health: Health
    rate: TokenRate
    answering: Answering
    metrics: Metrics


def serve(loaded: LoadedSettings, identity: Identity, screen: ServeScreen) -> int:
    """Run the miner until it is told to stop; gives the exit status. Errors: `SettingsError`."""
    return build(loaded, identity, screen).run()


def build(loaded: LoadedSettings, identity: Identity, screen: ServeScreen) -> Miner:
    """Everything, put together; nothing runs yet. Errors: `SettingsError`."""
    settings, clock = loaded.settings, SystemClock()
    metrics = Metrics()
    wire = _wire(settings, clock)
    calling = build_calling(loaded, identity, wire.sessions, metrics, clock)
    core = _core(loaded, identity, calling, metrics, clock)

    failures = failure_responses(wire.keyring, core.metrics, shape=openai_errors.shape)
    detail = _detail(loaded, identity, core, wire, calling, clock)

    def validators() -> ValidatorsReport:
        return live_validators(calling.allow_list.validators(), wire.handshakes, wire.sessions)

    token, gpus = write_admin_token(settings.state_dir), GpuWatch()
    admin_routes = AdminRoutes(
        detail=detail, validators=validators, admission=core.admission, metrics=core.metrics, token=token
    )
    overviews = _overviews(settings, core, calling, clock, detail, validators, gpus)
    dashboard = DashboardRoutes(overviews.now, core.admission, token)

    async def keep() -> None:
        dashboard.close()
        await calling.close()

    host = _LOOPBACK if identity.development else settings.api_host
    public = Listener(
        _public(loaded, identity, core, wire, calling, clock), Address(host, settings.api_port), "API_PORT"
    )
    admin = Listener(
        admin_app(
            [*admin_routes.handlers(), *dashboard.handlers(), *_openai(settings, core, clock).handlers()], failures
        ),
        Address(_LOOPBACK, settings.admin_port),
        "ADMIN_PORT",
    )
    _watch(core, wire, settings.answer_hard_cut_seconds)
    return Miner(
        public=public,
        admin=admin,
        backend=core.backend,
        probing=core.probing,
        health=core.health,
        admission=core.admission,
        keyring=wire.keyring,
        rotate_keys=settings.fiber_enable_key_rotation,
        drain_seconds=settings.drain_timeout_seconds,
        keepers=(
            *(calling.keep_fresh, calling.alarms.run, calling.last_answer.run, calling.challenges.run),
            *(overviews.run, gpus.run, *_alerting(settings, identity, detail, clock)),
        ),
        keep=keep,
        clock=clock,
        screen=screen,
        facts=_facts(loaded, identity, public, admin),
    )


def _detail(
    loaded: LoadedSettings, identity: Identity, core: Core, wire: Wire, calling: Calling, clock: Clock
) -> Callable[[], HealthDetail]:
    """What `/health` on the admin listener gives."""
    started = clock.monotonic()

    def detail() -> HealthDetail:
        readiness = core.health.readiness()
        return HealthDetail(
            ready=readiness.ready,
            cause=readiness.cause,
            reason=readiness.reason,
            version=__version__,
            hotkey=identity.hotkey.ss58,
            development=identity.development,
            uptime_seconds=round(clock.monotonic() - started, 3),
            backend=core.backend.status(),
            probe_seconds=core.probing.last_seconds,
            admission=AdmissionState(
                running=core.admission.running,
                slots=core.admission.slots,
                queued=core.admission.queued,
                queue_limit=core.admission.queue_limit,
                draining=core.admission.draining,
            ),
            sessions=len(wire.sessions),
            warnings=loaded.warnings,
            validators=len(calling.allow_list.validators()),
            allow_list=tuple(refresh.report() for refresh in calling.refreshes),
            chain=None if calling.watch is None else calling.watch.report(),
            last_answer=calling.last_answer.report(),
            alarms=calling.alarms.current(),
        )

    return detail


def _alerting(
    settings: Settings, identity: Identity, detail: Callable[[], HealthDetail], clock: Clock
) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
    """What sends alerts, where there is somewhere to send them."""
    if settings.alert_webhook_url is None:
        return ()

    async def look() -> Sequence[Alarm]:
        try:
            free = (await asyncio.to_thread(shutil.disk_usage, settings.state_dir)).free
        except OSError:
            free = None
        return troubles(detail(), free)

    webhook = Webhook(settings.alert_webhook_url, settings.alert_webhook_secret, clock)
    return (Alerting(look, webhook, identity.hotkey.ss58, clock).run,)


def _overviews(
    settings: Settings,
    core: Core,
    calling: Calling,
    clock: Clock,
    detail: Callable[[], HealthDetail],
    validators: Callable[[], ValidatorsReport],
    gpus: GpuWatch,
) -> Overviews:
    return Overviews(
        detail=detail,
        validators=validators,
        challenges=calling.challenges,
        recent=calling.recent,
        metrics=core.metrics,
        tokens_per_second=lambda: core.rate.tokens_per_second,
        gpus=gpus.reading,
        subnet=(settings.netuid, settings.subtensor_network),
        clock=clock,
    )


def _core(loaded: LoadedSettings, identity: Identity, calling: Calling, metrics: Metrics, clock: Clock) -> Core:
    settings = loaded.settings
    backend = build_backend(settings, clock)
    probing = Probing(
        backend,
        clock,
        interval=settings.probe_interval_seconds,
        timeout=settings.probe_timeout_seconds,
        retry=_PROBE_RETRY_SECONDS,
    )
    admission = Admission(_slots(settings), settings.max_queued_requests, clock)
    access = Access(
        calling.allow_list,
        clock,
        _route_limits(settings),
        hotkey_per_minute=settings.rate_limit_hotkey,
        # On a laptop nobody but its owner can call, so the limits only bite when they are asked for.
        enabled=settings.enable_rate_limits and (not identity.development or loaded.explicit("ENABLE_RATE_LIMITS")),
        strangers_per_minute=settings.rate_limit_strangers,
        published_only=settings.strict_validator_address,
        own_hotkey=identity.hotkey.ss58,
    )
    health = Health(backend, probing, admission, access)
    rate = TokenRate()
    answering = Answering(backend, admission, health, rate, _defaults(settings), clock)
    return Core(backend, probing, admission, access, health, rate, answering, metrics)


def _wire(settings: Settings, clock: Clock) -> Wire:
    keyring = RsaKeyring(clock.wall)
    sessions = SessionTable(clock.wall, ttl=settings.fiber_key_ttl_seconds)
    handshakes = Handshakes(
        keyring,
        sessions,
        NonceMemory(settings.fiber_timestamp_window_seconds),
        clock.wall,
        window=settings.fiber_timestamp_window_seconds,
        started_at=clock.wall(),
        randomness=os.urandom,
        ahead=AheadFile(settings.state_dir),
    )
    return Wire(keyring, sessions, handshakes)


def _public(
    loaded: LoadedSettings, identity: Identity, core: Core, wire: Wire, calling: Calling, clock: Clock
) -> SourceGate:
    settings = loaded.settings
    callers = Callers(settings.trusted_proxies)
    journal = Journal(core.metrics, clock, calling.last_answer, calling.challenges)
    reception = Reception(core.access, wire.handshakes, wire.sessions, core.answering, journal, clock)
    routes = PublicRoutes(
        reception=reception,
        health=core.health,
        keyring=wire.keyring,
        callers=callers,
        clock=clock,
        miner_hotkey=identity.hotkey.ss58,
        times=AnswerTimes(settings.answer_soft_stop_seconds, settings.answer_hard_cut_seconds),
        body_seconds=settings.body_timeout_seconds,
        challenge_bytes=settings.max_challenge_bytes,
        inference_for_all=settings.enable_legacy_inference,
    )
    app = public_app(routes, failure_responses(wire.keyring, core.metrics), api_docs=settings.api_docs)
    return SourceGate(app, core.access, callers, core.metrics)


def _openai(settings: Settings, core: Core, clock: Clock) -> OpenAiRoutes:
    journal, defaults = Journal(core.metrics, clock), _defaults(settings)
    return OpenAiRoutes(
        completing=Completing(core.backend, core.admission, core.health, journal, defaults, clock),
        status=core.backend.status,
        key=settings.api_key,
        body_seconds=settings.body_timeout_seconds,
        fingerprint=f"loosh-miner-{__version__}",
        clock=clock,
    )


def _defaults(settings: Settings) -> GenerationDefaults:
    return GenerationDefaults(settings.default_max_tokens, settings.default_temperature, settings.default_top_p)


def _slots(settings: Settings) -> int:
    """Challenges that may run at once: no more than the engine in the process writes side by side."""
    if settings.llm_backend == "llamacpp":
        return min(settings.max_concurrent_requests, embedded_parallel(settings))
    return settings.max_concurrent_requests


def _route_limits(settings: Settings) -> Mapping[str, RouteLimit]:
    def limit(rate: RateLimit) -> RouteLimit:
        return RouteLimit(rate.known, rate.unknown)

    return {
        "availability": limit(settings.rate_limit_availability),
        "public_key": limit(settings.rate_limit_public_key),
        "key_exchange": limit(settings.rate_limit_key_exchange),
        "challenge": limit(settings.rate_limit_challenge),
        "inference": limit(settings.rate_limit_inference),
        "other": limit(settings.rate_limit_other),
    }


def _facts(loaded: LoadedSettings, identity: Identity, public: Listener, admin: Listener) -> StartFacts:
    settings = loaded.settings
    return StartFacts(
        api_url=public.address.url(),
        admin_url=admin.address.url(),
        hotkey=identity.hotkey.ss58,
        netuid=settings.netuid,
        network=settings.subtensor_network,
        development=identity.development,
        backend=settings.llm_backend,
        model=model_in_process(settings) if settings.llm_backend == "llamacpp" else settings.default_model or "",
        warnings=loaded.warnings,
    )


def _watch(core: Core, wire: Wire, deadline: float) -> None:
    metrics = core.metrics
    metrics.watch("loosh_deadline_seconds", "After which an answer is cut", lambda: deadline)
    metrics.watch("loosh_running", "Challenges being answered", lambda: core.admission.running)
    metrics.watch("loosh_queued", "Challenges waiting for a slot", lambda: core.admission.queued)
    metrics.watch("loosh_slots", "Challenges that may run at once", lambda: core.admission.slots)
    metrics.watch("loosh_ready", "1 when challenges are answered", lambda: float(core.health.readiness().ready))
    metrics.watch("loosh_engine_up", "1 when the engine's last probe was good", lambda: float(core.health.engine_up()))
    metrics.watch("loosh_tokens_per_second", "Of one answer, smoothed", lambda: core.rate.tokens_per_second)
    metrics.watch("loosh_sessions", "Sessions with validators", lambda: len(wire.sessions))
    metrics.watch("loosh_sessions_evicted", "Sessions ended for newer ones", lambda: wire.sessions.counts.evicted)
    metrics.watch("loosh_probe_seconds", "How long the last good probe took", lambda: core.probing.last_seconds or 0.0)
