"""What the tests with a real vLLM share; all of them are skipped where `just test-vllm` did not make one."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import openai
import pytest

from tests.conftest import StartMiner
from tests.miner.canary import Evidence
from tests.miner.process import MinerProcess
from tests.miner.validator import Validator
from tests.v1.asking import async_client, sync_client
from tests.vllm.parts import Parts
from tests.vllm.server import CONTEXT, VllmServer

PARTS_IN: Final = "VLLM_TEST_PARTS"
HERE: Final = Path(__file__).parent
READY_SECONDS: Final = 120.0
"""The first token of this engine can take long where others use the processors."""

type NewValidator = Callable[[], Awaitable[Validator]]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip them in the normal suite; give each the time of a start where they run."""
    here = [item for item in items if HERE in item.path.parents]
    skip = pytest.mark.skip(reason="a real vLLM has a recipe of its own: `just test-vllm`")
    for item in here:
        item.add_marker(pytest.mark.timeout(900) if PARTS_IN in os.environ else skip)


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """The server, started once."""
    parts = Parts(Path(os.environ[PARTS_IN]))
    with VllmServer(parts, tmp_path_factory.mktemp("vllm") / "vllm.log") as server:
        print(f"\nvLLM answers {server.start():.1f} s after its start")  # noqa: T201 - one of the figures wanted
        yield server


@pytest.fixture(scope="session")
def start_miner(vllm: VllmServer, evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartMiner]:
    """Start miners on the real vLLM; all end with the run."""
    started: list[MinerProcess] = []

    def start(*, wait: bool = True, home: Path | None = None, **settings: object) -> MinerProcess:
        defaults: dict[str, object] = {
            "LLM_BACKEND": "vllm",
            "VLLM_API_BASE": vllm.base_url,
            "DEFAULT_MODEL": "smollm2",
            "MIN_CONTEXT_TOKENS": CONTEXT,
            "PROBE_INTERVAL_SECONDS": 60,
            "PROBE_TIMEOUT_SECONDS": 60,  # a probe waits behind a long prompt, which takes this engine many seconds
            "ENABLE_RATE_LIMITS": "false",
        }
        miner = MinerProcess(home or tmp_path_factory.mktemp("miner"), defaults | settings, evidence)
        started.append(miner)
        miner.start(wait=False)
        if wait:
            miner.wait_ready(READY_SECONDS)
        return miner

    yield start
    for miner in started:
        miner.stop()


@pytest.fixture(scope="session")
def miner(start_miner: StartMiner) -> MinerProcess:
    """A miner with plain settings and no rate limits."""
    return start_miner()


@pytest.fixture
def client(miner: MinerProcess) -> Iterator[openai.OpenAI]:
    """OpenAI's client, which refuses answers of another shape."""
    with sync_client(miner) as made:
        yield made


@pytest.fixture
async def asynchronous(miner: MinerProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    """The same, on asyncio."""
    async with async_client(miner) as made:
        yield made


@pytest.fixture
async def new_validator(miner: MinerProcess) -> AsyncIterator[NewValidator]:
    """Make validators of the plain miner, with a session."""
    async with AsyncExitStack() as stack:

        async def make() -> Validator:
            await asyncio.to_thread(miner.wait_ready, READY_SECONDS)
            made = await stack.enter_async_context(await miner.validator())
            await made.shake()
            return made

        yield make
