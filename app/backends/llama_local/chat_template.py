"""Chat messages become the text that the model was trained on, by the model's own Jinja template."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any, Final

import jinja2
import msgspec
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.errors import BackendRejected

_CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""For a model file without a template: the most common form."""


class ContentPart(msgspec.Struct):
    """A piece of a message's content."""

    type: str
    text: str = ""


class CalledFunction(msgspec.Struct):
    """What a message's tool call names."""

    name: str
    arguments: str = "{}"


class MessageToolCall(msgspec.Struct, kw_only=True):
    """A tool call the assistant made earlier."""

    function: CalledFunction
    id: str = ""
    type: str = "function"


class Message(msgspec.Struct, omit_defaults=True):
    """A chat message; what templates don't know of is left out."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[MessageToolCall] | None = None
    tool_call_id: str | None = None

    def text(self) -> str:
        """The content in one piece."""
        return _flat(self.content)


Rendered = dict[str, Any]
"""A message, or a tool, as templates read it."""

_MESSAGES: Final = msgspec.json.Decoder(list[Message])


def read_messages(raw: bytes) -> list[Message]:
    """The messages of a request. Nesting was bounded before (design decision 3)."""
    try:
        messages = _MESSAGES.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendRejected(f"messages can't be read: {error}") from error
    if not messages:
        raise BackendRejected("messages is empty: send at least one")
    return messages


class ChatTemplate:
    """A template with what it knows of."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self._source = source or _CHATML
        self._bos = bos
        self._eos = eos
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(self._source)
        except jinja2.TemplateError as error:
            raise BackendRejected(f"the model's chat template has an error: {error}") from error

    @property
    def knows_tools(self) -> bool:
        """Whether the template itself tells the model of tools, in the form that we read calls in."""
        return "tools" in self._source and "<tool_call>" in self._source

    def render(self, messages: Sequence[Message], tools: Sequence[Rendered] = ()) -> str:
        """The prompt up to where the assistant begins to speak."""
        try:
            return self._template.render(
                messages=[self._message(message) for message in messages],
                tools=list(tools) or None,
                add_generation_prompt=True,
                bos_token=self._bos,
                eos_token=self._eos,
                raise_exception=_raise,
                strftime_now=_now,
            )
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            # An error's text may quote the messages, which no log may hold; what stands in the template does not.
            why = str(error) if str(error) in self._source else type(error).__name__
            raise BackendRejected(f"the model's chat template can't take these messages: {why}") from None

    def _message(self, message: Message) -> Rendered:
        """Text content in one piece, as templates expect it."""
        rendered: Rendered = msgspec.to_builtins(message)
        rendered["content"] = message.text()
        for call in rendered.get("tool_calls", ()):
            call["function"]["arguments"] = _parsed(call["function"]["arguments"])
        if message.role == "developer" and "developer" not in self._source:
            rendered["role"] = "system"
        return rendered


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; here it means nothing."""

    tags = frozenset({"generation"})  # pyright: ignore[reportAssignmentType] - jinja2 only asks for membership

    def parse(self, parser: Parser) -> Node | list[Node]:
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _flat(content: str | list[ContentPart] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    for part in content:
        if part.type not in {"text", "input_text", "refusal"}:
            raise BackendRejected("the model reads text only: send content parts of type 'text'")
    return "\n".join(part.text for part in content)


def _parsed(arguments: str) -> object:
    """Templates write arguments out as JSON themselves."""
    try:
        return msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return arguments


def _to_json(value: object, indent: int | None = None) -> str:
    """As templates are written for: not escaped for HTML, as Jinja's own filter does."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return dt.datetime.now(dt.UTC).strftime(form)
