"""Fixtures for all tests: the engine stub, real miners, and the canaries that watch them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chain.api_process import ChallengeApiProcess
from tests.chain.node_process import ChainNode
from tests.chain.runtime_metadata import runtime_metadata
from tests.miner.canary import Evidence, marks
from tests.miner.process import MinerProcess, StubEngine

type StartMiner = Callable[..., MinerProcess]
type StartChain = Callable[..., ChainNode]

LAST = "test_threat_18_"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """The search for canaries comes last, whatever order the rest has."""
    yield
    items.sort(key=lambda item: item.name.startswith(LAST))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what any test's code under test logged or printed, for the canaries."""
    if report.when == "call" and report.passed:
        KEPT.evidence.add(report.nodeid, "\n".join(text for _, text in report.sections).encode())


class _Kept:
    """Where hooks, which get no fixtures, leave what they saw."""

    evidence = Evidence()


KEPT = _Kept()


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    """All that the miners of this run wrote for others."""
    return KEPT.evidence


@pytest.fixture(scope="session")
def canary_marks() -> dict[str, bytes]:
    """What must never be seen."""
    return marks()


@pytest.fixture(scope="module")
def engine_process() -> Iterator[StubEngine]:
    """An engine stub for a module's miners."""
    with StubEngine() as engine:
        yield engine


@pytest.fixture
def engine(engine_process: StubEngine) -> StubEngine:
    """The module's engine, behaving well and having seen nothing."""
    engine_process.behave()
    return engine_process


@pytest.fixture(scope="module")
def start_miner(
    engine_process: StubEngine, evidence: Evidence, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartMiner]:
    """Start miners on the module's engine: `start_miner(MAX_CONCURRENT_REQUESTS=2)`; all end with the module."""
    started: list[MinerProcess] = []

    def start(*, wait: bool = True, home: Path | None = None, **settings: object) -> MinerProcess:
        defaults: dict[str, object] = {
            "LLM_BACKEND": "vllm",
            "VLLM_API_BASE": engine_process.base_url,
            "DEFAULT_MODEL": engine_process.model,
            "ENABLE_RATE_LIMITS": "false",
        }
        miner = MinerProcess(home or tmp_path_factory.mktemp("miner"), defaults | settings, evidence)
        started.append(miner)
        engine_process.behave()
        return miner.start(wait=wait)

    yield start
    for miner in started:
        miner.stop()


@pytest.fixture(scope="module")
def miner(start_miner: StartMiner) -> MinerProcess:
    """A miner with plain settings and no rate limits."""
    return start_miner()


@pytest.fixture(scope="module")
def start_chain() -> Iterator[StartChain]:
    """Start chain nodes, `start_chain("--block-ms", "20")`; all end with the module. Skips where PyPI can't be had."""
    metadata = runtime_metadata()
    started: list[ChainNode] = []

    def start(*flags: str) -> ChainNode:
        node = ChainNode(metadata, *flags)
        started.append(node)
        return node

    yield start
    for node in started:
        node.stop()


@pytest.fixture(scope="module")
def challenge_api_process() -> Iterator[ChallengeApiProcess]:
    """The Challenge API's stand-in for a module."""
    with ChallengeApiProcess() as api:
        yield api


@pytest.fixture
def challenge_api(challenge_api_process: ChallengeApiProcess) -> ChallengeApiProcess:
    """The module's Challenge API, behaving well and listing nobody."""
    challenge_api_process.behave()
    return challenge_api_process


@pytest.fixture
def chain(start_chain: StartChain) -> Iterator[ChainNode]:
    """A chain without subnets, for one test."""
    node = start_chain()
    yield node
    node.stop()


def pytest_report_header() -> str:
    """How loud the machine is, for whoever reads a slow run."""
    return f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
