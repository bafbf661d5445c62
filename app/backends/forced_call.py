"""Calls that a request forces (`tool_choice` "required" or a name), and what engines need to make them valid."""

from typing import Any, Final

import msgspec

from app.errors import BackendRejected

_FREE: Final = ("auto", "none")
_TOOLS: Final = msgspec.json.Decoder(list[dict[str, Any]])
_REQUIRED: Final = b'"required"'


def is_forced(tool_choice: bytes | None) -> bool:
    """Whether the model has to call a tool; the choice is JSON whose shape was checked before."""
    return tool_choice is not None and msgspec.json.decode(tool_choice) not in _FREE


def with_the_named(tools: bytes, tool_choice: bytes) -> tuple[bytes, bytes]:
    """Tools and choice for an engine that reads no name: "required", with the named tool alone.

    Errors: `BackendRejected` when there is no such tool.
    """
    choice = msgspec.json.decode(tool_choice)
    if not isinstance(choice, dict):
        return tools, tool_choice
    name = msgspec.convert(choice, dict[str, Any])["function"]["name"]
    named = [tool for tool in _TOOLS.decode(tools) if tool["function"]["name"] == name]
    if not named:
        raise BackendRejected("tool_choice asks for a tool that is not among the tools")
    return msgspec.json.encode(named), _REQUIRED


def held_to_their_schemas(tools: bytes) -> bytes:
    """The tools (a JSON array, checked before) as `strict`, but for those that say themselves whether they are.

    vLLM makes a forced call's arguments fit the tool's schema only then; without it they are any JSON, maybe no object
    (`--tool-strict-level`, `auto` by default). Ollama does not read it.
    """
    decoded = _TOOLS.decode(tools)
    for tool in decoded:
        if tool["function"].get("strict") is None:
            tool["function"]["strict"] = True
    return msgspec.json.encode(decoded)
