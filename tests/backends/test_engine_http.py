"""The HTTP client of the engines: where it may connect, what it takes, and what it keeps open."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from app.backends.dialects import Tell, Vllm
from app.backends.engine_http import CheckedResolver, EngineHttp
from app.backends.openai_api import OpenAiBackend
from app.clock import SystemClock
from app.domain.backend import BackendStatus
from app.engines import build_backend
from app.errors import BackendUnavailable
from app.settings import load
from app.settings_checks import is_private_address
from tests.backends.engines import question, text_of, until
from tests.miner.process import StubEngine


@pytest.fixture
async def backend(engine: StubEngine) -> AsyncIterator[OpenAiBackend]:
    made = OpenAiBackend(Vllm(None, 16384), engine.base_url, is_private_address)
    await made.open()
    await until(lambda: made.status().ready)
    yield made
    await made.close()


class _Names(AbstractResolver):
    """All names lead where the test says."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None: ...


async def test_threat_19_a_name_leads_to_private_addresses_only() -> None:
    both = CheckedResolver(is_private_address, _Names("10.0.0.7", "93.184.216.34", "fe80::1%eth0"))
    assert [one["host"] for one in await both.resolve("gpu")] == ["10.0.0.7", "fe80::1%eth0"]
    public = _Names("93.184.216.34", "::ffff:93.184.216.34", "2606:2800:220:1::1")
    with pytest.raises(OSError, match="ALLOW_PUBLIC_ENGINE"):
        await CheckedResolver(is_private_address, public).resolve("gpu")


async def test_threat_19_a_name_that_leads_outside_is_told_and_never_connected(engine: StubEngine) -> None:
    """`localhost` stands in for a private-looking name; the check is told that loopback is public."""
    http = EngineHttp("vLLM", f"http://localhost:{engine.port}", lambda address: not address.startswith(("127.", "::")))
    await http.open()
    with pytest.raises(BackendUnavailable, match=r"leads to a public address.*ALLOW_PUBLIC_ENGINE=true"):
        await http.status_of("/health")
    await http.close()


async def test_one_connection_serves_challenge_after_challenge(backend: OpenAiBackend, engine: StubEngine) -> None:
    def ours() -> set[int]:
        connections = psutil.Process().net_connections("tcp4")
        return {one.laddr.port for one in connections if one.raddr and one.raddr.port == engine.port}

    await text_of(backend, question("?"))
    before = ours()
    for chunks in (1, 1, 32, 32):
        engine.behave(chunks=chunks, token_ms=1)
        await text_of(backend, question("?"))
    assert ours() == before
    assert 1 <= len(before) <= 2  # the look at the engine may have one of its own


async def test_a_connection_closed_in_the_moment_of_its_use_is_no_failure(
    backend: OpenAiBackend, engine: StubEngine
) -> None:
    engine.behave(next=[{"fault": "reset"}])
    assert await text_of(backend, question("?"))
    engine.behave(next=[{"fault": "reset"}, {"fault": "reset"}])
    with pytest.raises(BackendUnavailable):
        await text_of(backend, question("?"))


@pytest.mark.parametrize("status", [500, 503])
async def test_an_engine_that_says_it_is_not_well_is_down(
    backend: OpenAiBackend, engine: StubEngine, status: int
) -> None:
    engine.behave(health_status=status, next=[{"fault": "error_500"}])
    with pytest.raises(BackendUnavailable):
        await text_of(backend, question("?"))
    await until(lambda: f"/health: {status}" in backend.status().reason)
    engine.behave()
    await until(lambda: backend.status().ready)


async def test_a_router_with_an_engine_left_is_ready_and_without_one_is_not(
    backend: OpenAiBackend, engine: StubEngine
) -> None:
    engine.behave(health_status=503, healthy_workers=0, next=[{"fault": "error_500"}])
    with pytest.raises(BackendUnavailable):
        await text_of(backend, question("?"))
    await until(lambda: "/health: 503" in backend.status().reason)
    engine.behave(health_status=503, healthy_workers=1)
    await until(lambda: backend.status().ready)


async def test_an_engine_without_a_health_route_is_taken(backend: OpenAiBackend, engine: StubEngine) -> None:
    engine.behave(health_status=404, next=[{"fault": "error_500"}])
    with pytest.raises(BackendUnavailable):
        await text_of(backend, question("?"))
    await asyncio.sleep(0.5)
    assert backend.status().ready


async def test_a_context_under_the_least_is_not_ready() -> None:
    with StubEngine("--max-model-len", "8192") as small:
        backend = OpenAiBackend(Vllm(None, 16384), small.base_url)
        await backend.open()
        await until(lambda: not backend.status().loading)
        assert "context of 8192 tokens" in backend.status().reason
        assert "--max-model-len 16384" in backend.status().reason
        await backend.close()


async def test_a_server_of_another_kind_is_told(engine: StubEngine) -> None:
    backend = OpenAiBackend(Vllm(None, 16384), f"http://127.0.0.1:{engine.control_port}/v1")
    await backend.open()
    await until(lambda: not backend.status().loading)
    assert "/v1/models with status 404" in backend.status().reason
    await backend.close()


class _SlowDialect(Vllm, frozen=True, kw_only=True):
    """vLLM that is found once and then answers no look any more."""

    looks: list[int]

    async def look(self, http: EngineHttp, tell: Tell) -> BackendStatus:
        self.looks.append(1)
        if len(self.looks) > 1:
            raise TimeoutError
        return await super().look(http, tell)


async def test_an_engine_that_is_slow_to_tell_of_itself_is_left_to_the_probe(engine: StubEngine) -> None:
    dialect = _SlowDialect(None, 16384, looks=[])
    backend = OpenAiBackend(dialect, engine.base_url)
    await backend.open()
    await until(lambda: backend.status().ready)
    engine.behave(next=[{"fault": "error_500"}])
    with pytest.raises(BackendUnavailable):
        await text_of(backend, question("?"))
    await until(lambda: len(dialect.looks) > 1)
    await asyncio.sleep(0.05)
    assert backend.status().ready
    await backend.close()


def _inside(part: object, name: str) -> Any:  # noqa: ANN401 - whatever is in there
    return vars(part)[name]


@pytest.mark.parametrize(("allowed", "checked"), [("false", True), ("true", False)])
def test_threat_19_names_are_checked_unless_public_engines_are_allowed(allowed: str, *, checked: bool) -> None:
    for kind, name in (("vllm", "VLLM_API_BASE"), ("ollama", "OLLAMA_BASE_URL")):
        settings = {"LLM_BACKEND": kind, name: "http://gpu:1,http://gpu2:1", "DEFAULT_MODEL": "m"}
        loaded = load(settings | {"ALLOW_PUBLIC_ENGINE": allowed}, None).settings
        backend = build_backend(loaded, SystemClock())
        https = [_inside(_inside(one, "backend"), "_http") for one in _inside(backend, "_engines")]
        assert [_inside(http, "_may_connect") is is_private_address for http in https] == [checked, checked]


async def test_an_engine_that_asks_for_a_key_gets_it() -> None:
    """As vLLM with `--api-key`: `/health` is for all, `/v1` for those with the key."""
    with StubEngine("--api-key", "canary-engine-key") as engine:
        address = {"LLM_BACKEND": "vllm", "VLLM_API_BASE": engine.base_url}
        for key, says in (("", "asks for a key: set ENGINE_API_KEY"), ("another", "does not take ENGINE_API_KEY")):
            backend = build_backend(load(address | {"ENGINE_API_KEY": key}, None).settings, SystemClock())
            await backend.open()
            await until(lambda seen=backend: not seen.status().loading)
            assert says in backend.status().reason
            assert "another" not in backend.status().reason
            await backend.close()
        backend = build_backend(load(address | {"ENGINE_API_KEY": "canary-engine-key"}, None).settings, SystemClock())
        await backend.open()
        await until(lambda: backend.status().ready)
        assert await text_of(backend, question("?"))
        await backend.close()
