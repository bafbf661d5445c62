"""The embedded model, loaded once for all tests that don't change it."""

import asyncio
from collections.abc import Iterator

import pytest

from app.backends.llama_local.backend import LlamaLocalBackend
from tests.backends.llama_local.asking import opened


@pytest.fixture(scope="session")
def backend() -> Iterator[LlamaLocalBackend]:
    """As in production, with eight at once. It serves any event loop, so one lasts for all tests."""
    with asyncio.Runner() as runner:
        entering = opened()
        backend = runner.run(entering.__aenter__())
        yield backend
        runner.run(entering.__aexit__(None, None, None))
