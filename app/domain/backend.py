"""What the domain asks of an engine. `app.backends` implements it; nothing here knows which engines exist."""

from collections.abc import AsyncGenerator
from typing import Literal, Protocol

import msgspec

FinishReason = Literal["stop", "length", "tool_calls"]


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One text to write. The JSON parts are passed on as they came, byte for byte."""

    messages: bytes
    """JSON array of OpenAI chat messages."""
    max_tokens: int
    temperature: float
    top_p: float
    hard_cut: float
    """Monotonic seconds after which nobody reads the text any more."""
    tools: bytes | None = None
    """JSON array of OpenAI tools."""
    tool_choice: bytes | None = None
    response_format: bytes | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    gather_until: float = 0.0
    """Monotonic seconds until which pieces may be gathered; later each is wanted as soon as it is there."""


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A piece of a tool call; `id` and `name` come with the first piece of each `index`."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Delta(msgspec.Struct, gc=False):
    """What an engine wrote since the last one. Token counts are totals so far; 0 means not known."""

    text: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class BackendStatus(msgspec.Struct, frozen=True):
    """Whether the engine can be asked now; `reason` says why not and what to do."""

    ready: bool
    reason: str = ""
    loading: bool = False
    """Not ready yet, but on the way: there is nothing to mend."""
    model: str = ""
    context_tokens: int = 0
    address: str = ""
    """Where the engine is, when it is not in this process."""
    standing_by: tuple[str, ...] = ()
    """Of several engines, those that don't serve now: where, and why when they can't."""
    forces_calls: bool = True
    """Whether `tool_choice` "required" or a name makes sure of a call; else it is a wish that nobody reads."""
    forces_by_name: bool = True
    """Whether a name in `tool_choice` is read; else only "required" forces a call."""


class Backend(Protocol):
    """An engine that writes text.

    `generate` streams; closing the generator (`aclose`) ends the engine's work within 0.5 s.
    Errors: `BackendUnavailable`, `BackendRejected`.
    """

    async def open(self) -> None:
        """Start loading or connecting; comes back at once, `status` tells when the engine is ready."""
        ...

    async def close(self) -> None:
        """Let go of everything; running generations end."""
        ...

    def status(self) -> BackendStatus:
        """The engine's state as last seen; never waits."""
        ...

    def generate(self, generation: Generation) -> AsyncGenerator[Delta, None]:
        """Stream the text; the last delta has `finish` set."""
        ...

    async def probe(self) -> None:
        """Write one token for real; raises when the engine can't."""
        ...
