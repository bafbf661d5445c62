"""Tools for models that write text only: how the prompt tells of them, and the grammar that forces a call.

The form is Hermes', which most open models have seen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from app.backends.llama_local.chat_template import ChatTemplate, Message, Rendered
from app.backends.llama_local.grammar import Grammar, literal
from app.backends.llama_local.tool_calls import CALL_CLOSES, CALL_OPENS
from app.errors import BackendRejected

_MOST_CALLS: Final = 4
"""Forced calls in one answer: a small model would never stop by itself."""

_INTRODUCTION: Final = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


class Function(msgspec.Struct, omit_defaults=True):
    """A function the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    """A tool as OpenAI's API has it."""

    function: Function
    type: Literal["function"] = "function"


class _NamedFunction(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    function: _NamedFunction


_TOOLS: Final = msgspec.json.Decoder(list[Tool])
_CHOICE: Final = msgspec.json.Decoder(Literal["none", "auto", "required"] | _NamedTool | None)


class ToolBox(msgspec.Struct, frozen=True):
    """The tools of one request, with what the caller wants of them."""

    tools: tuple[Tool, ...] = ()
    forced: bool = False
    """The answer must be a call."""

    @property
    def names(self) -> frozenset[str]:
        """What can be called."""
        return frozenset(tool.function.name for tool in self.tools)


def read_tools(raw: bytes | None, choice: bytes | None) -> ToolBox:
    """The tools that the prompt should tell of; none where the caller wants none."""
    try:
        tools = _TOOLS.decode(raw) if raw else []
        wanted = _CHOICE.decode(choice) if choice else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendRejected(f"tools or tool_choice can't be read: {error}") from error
    if wanted == "none":
        return ToolBox()
    forced = wanted is not None and wanted != "auto"
    if isinstance(wanted, _NamedTool):
        tools = [tool for tool in tools if tool.function.name == wanted.function.name]
    if forced and not tools:
        raise BackendRejected("tool_choice asks for a tool that is not among the tools")
    return ToolBox(tuple(tools), forced)


def render_with_tools(template: ChatTemplate, messages: Sequence[Message], box: ToolBox) -> str:
    """The prompt: by the template itself where it knows these calls, else with words of ours."""
    tools: list[Rendered] = [msgspec.to_builtins(tool) for tool in box.tools]
    if template.knows_tools:
        return template.render(messages, tools)
    plain = [_in_words(message) for message in messages]
    if tools:
        lines = "\n".join(msgspec.json.encode(tool).decode() for tool in tools)
        plain = _introduced(plain, _INTRODUCTION.format(tools=lines))
    return template.render(plain)


def forced_call(grammar: Grammar, box: ToolBox) -> str:
    """A grammar rule for one or more calls of these tools; for exactly one where there is one tool only."""
    calls = " | ".join(_call(grammar, tool.function) for tool in box.tools)
    call = grammar.add(calls)
    return call if len(box.tools) == 1 else grammar.add(f'{call} ("\\n" {call}){{0,{_MOST_CALLS - 1}}}')


def _call(grammar: Grammar, function: Function) -> str:
    name = msgspec.json.encode(function.name).decode()
    opening = literal(f'{CALL_OPENS}\n{{"name": {name}, "arguments": ')
    arguments = grammar.schema({"type": "object", **(function.parameters or {})})
    return f"{opening} {arguments} {literal('}' + chr(10) + CALL_CLOSES)}"


def _introduced(messages: list[Message], introduction: str) -> list[Message]:
    first = messages[0]
    if first.role in {"system", "developer"} and isinstance(first.content, str):
        return [Message(role=first.role, content=f"{first.content}\n\n{introduction}"), *messages[1:]]
    return [Message(role="system", content=introduction), *messages]


def _in_words(message: Message) -> Message:
    """Calls and their results, as a template without tools can tell them."""
    if message.role == "tool":
        return Message(role="user", content=f"<tool_response>\n{message.text()}\n</tool_response>")
    if not message.tool_calls:
        return Message(role=message.role, content=message.text())
    calls = [
        f'{CALL_OPENS}\n{{"name": {msgspec.json.encode(call.function.name).decode()}, '
        f'"arguments": {call.function.arguments or "{}"}}}\n{CALL_CLOSES}'
        for call in message.tool_calls
    ]
    return Message(role=message.role, content="\n".join([text for text in [message.text()] if text] + calls))
