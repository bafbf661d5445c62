"""Tool calls and response formats."""

import asyncio
import json
from typing import Any

import jsonschema
import msgspec
import pytest

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.chat_template import ChatTemplate, read_messages
from app.backends.llama_local.tool_calls import ToolCallReader
from app.backends.llama_local.tool_prompt import ToolBox, read_tools, render_with_tools
from app.domain.backend import ToolCallDelta
from app.errors import BackendRejected
from tests.backends.llama_local.asking import Answer, ask

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    },
}
TIME: dict[str, Any] = {
    "name": "get_time",
    "parameters": {"type": "object", "properties": {"zone": {"type": "integer", "minimum": -12, "maximum": 14}}},
}
SCHEMAS: dict[str, Any] = {function["name"]: function["parameters"] for function in (WEATHER, TIME)}
TOOLS = msgspec.json.encode([{"type": "function", "function": function} for function in (WEATHER, TIME)])
ROLES = "{% for m in messages %}[{{ m['role'] }}:{{ m['content'] }}]{% endfor %}"


def calls_of(answer: Answer) -> list[ToolCallDelta]:
    return [call for delta in answer.deltas for call in delta.tool_calls]


def check(answer: Answer) -> list[str]:
    """The names called; every call is whole and fits its schema."""
    calls = calls_of(answer)
    assert answer.last.finish == "tool_calls"
    assert answer.text == ""
    assert [call.index for call in calls] == list(range(len(calls)))
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.name is not None
        jsonschema.validate(json.loads(call.arguments), SCHEMAS[call.name])  # pyright: ignore[reportUnknownMemberType]
    return [call.name or "" for call in calls]


async def test_required_calls_are_always_valid(backend: LlamaLocalBackend) -> None:
    wanted = {"tools": TOOLS, "tool_choice": b'"required"', "max_tokens": 400, "temperature": 1.2}
    answers = await asyncio.gather(*(ask(backend, "Tell me a story.", seed=seed, **wanted) for seed in range(3)))
    assert all(1 <= len(check(answer)) <= 4 for answer in answers)


@pytest.mark.parametrize("name", ["get_weather", "get_time"])
async def test_a_named_tool_is_called_once(backend: LlamaLocalBackend, name: str) -> None:
    choice = msgspec.json.encode({"type": "function", "function": {"name": name}})
    assert check(await ask(backend, "Hello", tools=TOOLS, tool_choice=choice, max_tokens=200)) == [name]


async def test_a_forced_call_that_does_not_fit_is_not_shown(backend: LlamaLocalBackend) -> None:
    answer = await ask(backend, "Hello", tools=TOOLS, tool_choice=b'"required"', max_tokens=9)
    assert (answer.text, calls_of(answer), answer.last.finish) == ("", [], "length")


async def test_no_tools_are_told_of_when_none_are_wanted(backend: LlamaLocalBackend) -> None:
    plain = await ask(backend, "Hello", max_tokens=1)
    none = await ask(backend, "Hello", max_tokens=1, tools=TOOLS, tool_choice=b'"none"')
    auto = await ask(backend, "Hello", max_tokens=1, tools=TOOLS)
    assert none.last.prompt_tokens == plain.last.prompt_tokens < auto.last.prompt_tokens


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tools": b"{"}, "can't be read"),
        ({"tools": b'[{"type":"function"}]'}, "can't be read"),
        ({"tools": TOOLS, "tool_choice": b'"perhaps"'}, "can't be read"),
        ({"tool_choice": b'"required"'}, "not among the tools"),
        ({"tools": TOOLS, "tool_choice": b'{"type":"function","function":{"name":"other"}}'}, "not among the tools"),
        ({"response_format": b'{"type":"xml"}'}, "response_format can't be read"),
        ({"response_format": b'{"type":"json_schema"}'}, "response_format can't be read"),
        ({"response_format": b'{"type":"json_schema","json_schema":{"schema":{"type":"no"}}}'}, "JSON schema"),
    ],
    ids=range(8),
)
async def test_what_cannot_be_used_is_refused(backend: LlamaLocalBackend, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendRejected, match=says):
        await ask(backend, **changes)


async def test_a_json_schema_is_kept_to(backend: LlamaLocalBackend) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "mood": {"enum": ["good", "bad"]},
            "score": {"type": "number", "minimum": 0, "maximum": 10},
            "words": {"type": "array", "items": {"type": "string", "maxLength": 8}, "minItems": 2, "maxItems": 3},
        },
        "required": ["mood", "score", "words"],
    }
    wanted = msgspec.json.encode({"type": "json_schema", "json_schema": {"name": "review", "schema": schema}})
    heats = (0.0, 0.5, 1.0, 1.5)
    answers = await asyncio.gather(
        *(ask(backend, "How was it?", response_format=wanted, max_tokens=150, temperature=heat) for heat in heats)
    )
    for answer in answers:
        assert answer.last.finish == "stop"
        jsonschema.validate(json.loads(answer.text), schema)  # pyright: ignore[reportUnknownMemberType]


async def test_a_json_object_is_one(backend: LlamaLocalBackend) -> None:
    wanted = b'{"type":"json_object"}'
    answer = await ask(backend, 'Answer with {"ok": true} and nothing else.', response_format=wanted, max_tokens=120)
    assert answer.text.startswith("{")
    if answer.last.finish == "stop":
        assert isinstance(json.loads(answer.text), dict)


async def test_a_format_and_tools_leave_the_choice(backend: LlamaLocalBackend) -> None:
    wanted = b'{"type":"json_schema","json_schema":{"schema":{"enum":["yes","no"]}}}'
    answer = await ask(backend, "Do you like tea?", response_format=wanted, tools=TOOLS, max_tokens=200)
    if answer.last.finish == "tool_calls":
        check(answer)
    else:
        assert json.loads(answer.text) in {"yes", "no"}


def call(name: str = "f", arguments: str = '{"a":1}') -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def read(*texts: str, names: frozenset[str] = frozenset({"f", "g"})) -> tuple[str, list[tuple[str | None, str]]]:
    reader = ToolCallReader(names)
    shown, calls = "", list[ToolCallDelta]()
    for text in texts:
        said, new = reader.push(text)
        shown, calls = shown + said, [*calls, *new]
    shown += reader.finish()
    return shown, [(each.name, each.arguments) for each in calls]


@pytest.mark.parametrize(
    ("text", "shown", "calls"),
    [
        ("just text", "just text", []),
        (call(), "", [("f", '{"a":1}')]),
        ("I'll look.\n" + call(), "I'll look.", [("f", '{"a":1}')]),
        (call() + "\n" + call("g", "{}"), "", [("f", '{"a":1}'), ("g", "{}")]),
        (call(arguments='"{\\"a\\": 1}"'), "", [("f", '{"a":1}')]),
        (call().replace("arguments", "parameters"), "", [("f", '{"a":1}')]),
        ('<tool_call>{"name":"f"}</tool_call>', "", [("f", "{}")]),
        (call("unknown"), call("unknown"), []),
        (call(arguments='{"a":'), call(arguments='{"a":'), []),
        (call(arguments="[1]"), call(arguments="[1]"), []),
        (call()[:-3], "", []),
        ("text" + call()[:15], "text", []),
        ("a < b <tool", "a < b <tool", []),
        ("ends with space \n", "ends with space \n", []),
        (call() + "\n" + call()[:20], "", [("f", '{"a":1}')]),
    ],
    ids=range(15),
)
def test_calls_are_read_whole_or_not_at_all(text: str, shown: str, calls: list[tuple[str, str]]) -> None:
    assert read(text) == (shown, calls)
    for size in (1, 2, 3, 7):
        assert read(*(text[at : at + size] for at in range(0, len(text), size))) == (shown, calls), size


def test_without_tools_nothing_is_a_call() -> None:
    assert read(call(), names=frozenset()) == (call(), [])


def test_a_template_without_tools_is_told_of_them_in_words() -> None:
    messages = read_messages(
        msgspec.json.encode(
            [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"X"}'}}]},
                {"role": "tool", "tool_call_id": "1", "content": "rain"},
            ]
        )
    )  # fmt: skip
    rendered = render_with_tools(ChatTemplate(ROLES), messages, read_tools(TOOLS, None))
    assert rendered.startswith("[system:Be kind.\n\n# Tools")
    assert '"name":"get_weather"' in rendered
    assert '[assistant:<tool_call>\n{"name": "get_weather", "arguments": {"city":"X"}}\n</tool_call>]' in rendered
    assert rendered.endswith("[user:<tool_response>\nrain\n</tool_response>]")


def test_a_template_that_knows_tools_gets_them_as_data() -> None:
    source = (
        "{% for t in tools %}{{ t.function.name }};{% endfor %}{% for m in messages %}{% for c in m.tool_calls %}"
        "<tool_call>{{ c.function.arguments.city }}{% endfor %}{% endfor %}"
    )
    raw = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": '{"city":"X"}'}}]},
    ]
    messages = read_messages(msgspec.json.encode(raw))
    rendered = render_with_tools(ChatTemplate(source), messages, read_tools(TOOLS, b'"auto"'))
    assert rendered == "get_weather;get_time;<tool_call>X"


def test_a_named_tool_is_the_only_one_told_of() -> None:
    box = read_tools(TOOLS, b'{"type":"function","function":{"name":"get_time"}}')
    assert (box.names, box.forced) == (frozenset({"get_time"}), True)
    assert read_tools(TOOLS, b'"none"') == read_tools(None, None) == ToolBox()
