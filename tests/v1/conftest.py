"""What the tests of /v1 share: a miner with a key, and OpenAI's own clients."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import openai
import pytest

from tests.conftest import StartMiner
from tests.miner.canary import API_KEY
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import Validator
from tests.v1.asking import sync_client

type NewValidator = Callable[[MinerProcess], Awaitable[Validator]]


@pytest.fixture(scope="module")
def v1(start_miner: StartMiner) -> MinerProcess:
    """A miner with an API_KEY."""
    return start_miner(API_KEY=API_KEY, PROBE_INTERVAL_SECONDS=1, PROBE_TIMEOUT_SECONDS=1)


@pytest.fixture
def faulty(v1: MinerProcess, engine: StubEngine) -> Iterator[StubEngine]:
    """The engine, for tests that let it fail: the miner knows it to be well again before the next test."""
    yield engine
    engine.behave()
    engine.wait_probed()
    v1.wait_ready()


@pytest.fixture
def client(v1: MinerProcess, engine: StubEngine) -> Iterator[openai.OpenAI]:
    """OpenAI's client, which refuses answers of another shape, on an engine that behaves."""
    with sync_client(v1) as made:
        yield made


@pytest.fixture
async def new_validator() -> AsyncIterator[NewValidator]:
    """Make validators, with a session: `await new_validator(miner)`."""
    async with AsyncExitStack() as stack:

        async def make(miner: MinerProcess) -> Validator:
            made = await stack.enter_async_context(await miner.validator())
            await made.shake()
            return made

        yield make
