import pytest

from app.protocol.hotkeys import Hotkey
from tests.protocol.support import Clock, Miner


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def miner(clock: Clock) -> Miner:
    return Miner(clock)


@pytest.fixture
def hotkey() -> Hotkey:
    return Hotkey.from_seed(b"\x11" * 32)
