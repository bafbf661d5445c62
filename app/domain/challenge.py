"""The challenge as the validator sends it (protocol, section 3), read strictly and passed on untouched.

Messages, tools and the like stay the bytes they came as: they are checked for shape once, never rebuilt.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw

from app.errors import ContentRefused
from app.protocol.json_shape import decode

Role = Literal["system", "developer", "user", "assistant", "tool"]

MAX_MESSAGES: Final = 4096
MAX_TOOLS: Final = 512
MOST_TOKENS: Final = 2**31 - 1


class FunctionCall(msgspec.Struct):
    """A call in an assistant's message; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    """One of an assistant's earlier tool calls."""

    id: str
    function: FunctionCall


class ContentPart(msgspec.Struct):
    """A part of a message; only text is something this miner's models can read."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct):
    """An OpenAI chat message, as far as its shape is our business."""

    role: Role
    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Function(msgspec.Struct):
    """What a tool is called and takes."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class ChosenFunction(msgspec.Struct):
    """The name in a named tool choice."""

    name: str


class ChosenTool(msgspec.Struct):
    """`{"type": "function", "function": {"name": ...}}`: this tool and no other."""

    type: Literal["function"]
    function: ChosenFunction


class TimingData(msgspec.Struct, omit_defaults=True):
    """The validator's stop-watch; stages are kept as they came, finished or not."""

    correlation_id: str | None = None
    request_start_timestamp: float | None = None
    request_start_datetime: str | None = None
    stages: list[Raw] = []
    total_elapsed_ms: float | None = None


class ChallengeMetadata(msgspec.Struct):
    """Of the metadata only the timing is read."""

    timing_data: TimingData | None = None


class Challenge(msgspec.Struct, kw_only=True):
    """The plaintext of a challenge. Unknown fields are ignored; `null` means the setting's default."""

    messages: Raw = msgspec.field(default_factory=Raw)
    prompt: str | None = None
    model: str | None = None
    max_tokens: Annotated[float, Meta(ge=1, le=MOST_TOKENS)] | None = None
    """A whole number, which JSON may spell `5.0`."""
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0)] | None = None
    tools: Raw = msgspec.field(default_factory=Raw)
    tool_choice: Raw = msgspec.field(default_factory=Raw)
    correlation_id: Annotated[str, Meta(max_length=256)] | None = None
    metadata: ChallengeMetadata | None = None


class ChallengeReader:
    """Reads challenges; the decoders are built once."""

    def __init__(self) -> None:
        self._challenge = msgspec.json.Decoder(Challenge)
        self._messages = msgspec.json.Decoder(Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)])
        self._tools = msgspec.json.Decoder(Annotated[list[Tool], Meta(max_length=MAX_TOOLS)])
        self._tool_choice = msgspec.json.Decoder(Literal["auto", "none", "required"] | ChosenTool)

    def read(self, plaintext: bytes) -> Challenge:
        """The challenge, with `messages` set in any case: a legacy prompt becomes one user message.

        Errors: `ContentRefused` naming the field, never echoing what it held.
        """
        challenge = decode(self._challenge, plaintext)
        if _given(challenge.messages):
            _in_field("messages", self._messages, challenge.messages)
        elif challenge.prompt is not None:
            challenge.messages = Raw(msgspec.json.encode([{"role": "user", "content": challenge.prompt}]))
        else:
            raise ContentRefused("neither messages nor prompt: send one of them", reason="content")
        if _given(challenge.tools):
            tools = _in_field("tools", self._tools, challenge.tools)
            challenge.tools = challenge.tools if tools else Raw()
        if _given(challenge.tool_choice):
            _in_field("tool_choice", self._tool_choice, challenge.tool_choice)
            if not _given(challenge.tools):
                challenge.tool_choice = Raw()  # engines refuse a choice among no tools; a text is still worth something
        return challenge


def given(raw: Raw) -> bytes | None:
    """The bytes of a field that was sent and isn't null, else None."""
    return bytes(raw) if _given(raw) else None


def _given(raw: Raw) -> bool:
    return bytes(raw) not in (b"", b"null")


def _in_field[T](name: str, decoder: msgspec.json.Decoder[T], data: Raw) -> T:
    try:
        return decode(decoder, bytes(data))
    except ContentRefused as refusal:
        path = f"`$.{name}"
        detail = refusal.detail.replace("`$", path) if "`$" in refusal.detail else f"{refusal.detail} - at {path}`"
        raise ContentRefused(detail) from None
