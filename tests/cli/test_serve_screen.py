"""What an operator sees of a start."""

import errno
import io
from typing import override

import pytest
from rich.console import Console

from app.cli.serve_screen import TextScreen
from app.serve_events import StartFacts


def facts(*, development: bool) -> StartFacts:
    return StartFacts(
        api_url="http://127.0.0.1:18000",
        admin_url="http://127.0.0.1:18010",
        hotkey="5FebdFNt4bwQfHf4XEPT4iKDvG1aLyy5tZpPiwq8wXbNUCpF",
        netuid=78,
        network="finney",
        development=development,
        backend="llamacpp",
        model="",
        warnings=("[red]ENABLE_RATE_LIMITS[/red]=false",),
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_the_screen_says_the_mode_the_addresses_and_what_is_next(*, terminal: bool) -> None:
    out = io.StringIO()
    screen = TextScreen(Console(file=out, force_terminal=terminal, no_color=True, width=80))
    screen.starting(facts(development=True))
    screen.ready(1.26, "SmolLM2")
    text = out.getvalue()
    assert "Development mode: ephemeral hotkey, no chain, loopback only:" in text
    assert "http://127.0.0.1:18010" in text
    assert "warning: [red]ENABLE_RATE_LIMITS[/red]=false" in text, "shown as it is, not as markup"
    assert "Ready after 1.3 s: SmolLM2." in text
    assert '\n  ./justw challenge --url http://127.0.0.1:18000 "What is a Bittensor subnet?"\n' in text, "in one line"


def test_with_a_wallet_it_says_what_is_mined() -> None:
    out = io.StringIO()
    screen = TextScreen(Console(file=out))
    screen.starting(facts(development=False))
    screen.ready(1, "m")
    assert "Mining on netuid 78 of finney with the hotkey 5Feb" in out.getvalue()
    assert "justw challenge" not in out.getvalue(), "an ephemeral hotkey is not on the allow-list"


class Full(io.StringIO):
    """A terminal's end on a full disk."""

    @override
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, text[:0])


def test_nobody_watching_is_no_error() -> None:
    screen = TextScreen(Console(file=Full()))
    screen.starting(facts(development=True))
    screen.stopped(3)
