"""The embedded model, loaded once for all tests that don't change it."""

import asyncio
from collections.abc import Iterator

import pytest

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.options import LlamaLocalSettings
from tests.backends.llama_local.asking import opened


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaLocalBackend]:
    """As in production, with eight at once. It serves any event loop, so one lasts for all tests."""
    settings = LlamaLocalSettings(parallel=8, rewrite_folder=tmp_path_factory.mktemp("state") / "models")
    with asyncio.Runner() as runner:
        entering = opened(settings)
        backend = runner.run(entering.__aenter__())
        yield backend
        runner.run(entering.__aexit__(None, None, None))
