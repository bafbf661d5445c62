"""What an OpenAI client may ask of `/v1/chat/completions`, read strictly: each parameter is done or refused by name.

Messages, tools and schemas are checked for shape once and passed on as the bytes they came as.
"""

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw

from app.domain.challenge import MAX_MESSAGES, MAX_TOOLS, MOST_TOKENS, ChosenTool, Message, Tool, given
from app.errors import ContentRefused, ParameterRefused
from app.protocol.json_shape import decode

_MOST_STOPS: Final = 4
_LONGEST_STOP: Final = 1024
_LONGEST_NEUTRAL: Final = 64
_LONGEST_NAME: Final = 64
_PATH: Final = re.compile(r" - at `\$\.?([^`]*)`\Z")

# What no engine here can do, with the values that ask for nothing; null always does.
_NOT_DONE: Final[dict[str, tuple[object, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "audio": (),
    "reasoning_effort": (),
    "web_search_options": (),
    "functions": (),
    "function_call": (),
}
# Bookkeeping of OpenAI's own service, and hints: the answer is the same without them.
_NOT_NEEDED: Final = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)

_Stop = Annotated[str, Meta(min_length=1, max_length=_LONGEST_STOP)]
_Count = Annotated[float, Meta(ge=1)]
"""A whole number, which JSON may spell `5.0`."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Fields(msgspec.Struct, kw_only=True):
    model: str | None = None
    messages: Raw = msgspec.field(default_factory=Raw)
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=_MOST_STOPS)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    tools: Raw = msgspec.field(default_factory=Raw)
    tool_choice: Raw = msgspec.field(default_factory=Raw)
    parallel_tool_calls: bool | None = None
    response_format: Raw = msgspec.field(default_factory=Raw)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


_ANYTHING: Final = msgspec.json.Decoder()
_FREE_CHOICES: Final = ("auto", "none")
_KNOWN: Final = frozenset(_Fields.__struct_fields__)


class _Text(msgspec.Struct, tag_field="type", tag="text"):
    pass


class _JsonObject(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class _NamedSchema(msgspec.Struct, rename={"schema_": "schema"}):
    name: Annotated[str, Meta(min_length=1, max_length=_LONGEST_NAME)]
    schema_: dict[str, Any] | None = None
    strict: bool | None = None


class _JsonSchema(msgspec.Struct, tag_field="type", tag="json_schema"):
    json_schema: _NamedSchema


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of an OpenAI client; None means the setting's default."""

    messages: bytes
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    tools: bytes | None = None
    tool_choice: bytes | None = None
    forces_call: bool = False
    """The choice is "required" or a name: an answer without a call would be wrong."""
    one_call: bool = False
    """At most one tool call (`parallel_tool_calls: false`)."""
    response_format: bytes | None = None
    stream: bool = False
    include_usage: bool = False


class CompletionReader:
    """Reads requests; the decoders are built once."""

    def __init__(self) -> None:
        self._names = msgspec.json.Decoder(dict[str, Raw])
        self._fields = msgspec.json.Decoder(_Fields)
        self._messages = msgspec.json.Decoder(Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)])
        self._tools = msgspec.json.Decoder(Annotated[list[Tool], Meta(max_length=MAX_TOOLS)])
        self._tool_choice = msgspec.json.Decoder(Literal["auto", "none", "required"] | ChosenTool)
        self._response_format = msgspec.json.Decoder(_Text | _JsonObject | _JsonSchema)

    def read(self, body: bytes) -> CompletionRequest:
        """The request. Errors: `ParameterRefused` naming the parameter; no value is ever repeated in it."""
        for name, value in _read(self._names, body).items():
            _check_name(name, value)
        fields = _read(self._fields, body)
        if given(fields.messages) is None:
            raise ParameterRefused("messages is needed", param="messages", code="missing_parameter")
        _read(self._messages, fields.messages, "messages")
        if fields.stream_options is not None and not fields.stream:
            raise ParameterRefused("stream_options goes with stream only", param="stream_options")
        tools, tool_choice = self._tools_of(fields)
        stop = [fields.stop] if isinstance(fields.stop, str) else fields.stop or []
        return CompletionRequest(
            messages=bytes(fields.messages),
            max_tokens=_max_tokens(fields),
            temperature=fields.temperature,
            top_p=fields.top_p,
            stop=tuple(stop),
            seed=fields.seed,
            tools=tools,
            tool_choice=tool_choice,
            forces_call=tool_choice is not None and msgspec.json.decode(tool_choice) not in _FREE_CHOICES,
            one_call=fields.parallel_tool_calls is False,
            response_format=self._format_of(fields),
            stream=bool(fields.stream),
            include_usage=fields.stream_options is not None and bool(fields.stream_options.include_usage),
        )

    def _tools_of(self, fields: _Fields) -> tuple[bytes | None, bytes | None]:
        """Tools and choice. A choice among no tools is dropped where it asks for none, as engines refuse it."""
        tools: list[Tool] = [] if given(fields.tools) is None else _read(self._tools, fields.tools, "tools")
        if given(fields.tool_choice) is None:
            return (bytes(fields.tools) if tools else None), None
        choice = _read(self._tool_choice, fields.tool_choice, "tool_choice")
        if isinstance(choice, ChosenTool) and choice.function.name not in {tool.function.name for tool in tools}:
            raise ParameterRefused("tool_choice names a function that is not in tools", param="tool_choice")
        if tools:
            return bytes(fields.tools), bytes(fields.tool_choice)
        if choice == "required":
            raise ParameterRefused("tool_choice wants a call, and there are no tools", param="tool_choice")
        return None, None

    def _format_of(self, fields: _Fields) -> bytes | None:
        if given(fields.response_format) is None:
            return None
        wanted = _read(self._response_format, fields.response_format, "response_format")
        return None if isinstance(wanted, _Text) else bytes(fields.response_format)


def _check_name(name: str, value: Raw) -> None:
    if name in _KNOWN or name in _NOT_NEEDED or given(value) is None:
        return
    shown = name[:_LONGEST_NAME]
    if name not in _NOT_DONE:
        raise ParameterRefused(f"unknown parameter: {shown}", param=shown, code="unknown_parameter")
    accepted = _NOT_DONE[name]
    if len(bytes(value)) > _LONGEST_NEUTRAL or not _is_one_of(_read(_ANYTHING, value, name), accepted):
        only = " or ".join([msgspec.json.encode(one).decode() for one in accepted] or ["null"])
        raise ParameterRefused(
            f"{name} is not supported here: leave it out, or {only}", param=name, code="unsupported_parameter"
        )


def _is_one_of(value: object, accepted: tuple[object, ...]) -> bool:
    """Whether it is one of them; `true` is not 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in accepted)


def _max_tokens(fields: _Fields) -> int | None:
    name = "max_tokens" if fields.max_completion_tokens is None else "max_completion_tokens"
    wanted = fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
    if wanted is None:
        return None
    if not wanted.is_integer():
        raise ParameterRefused(f"{name} must be a whole number", param=name)
    return int(min(wanted, MOST_TOKENS))


def _read[T](decoder: msgspec.json.Decoder[T], data: bytes | Raw, name: str = "") -> T:
    try:
        return decode(decoder, bytes(data))
    except ContentRefused as refusal:
        path = _PATH.search(refusal.detail)
        inner = path[1] if path else ""
        param = name + inner if inner.startswith("[") else ".".join(part for part in (name, inner) if part)
        detail = _PATH.sub("", refusal.detail)
        raise ParameterRefused(f"{param}: {detail}" if param else detail, param=param or None) from None
