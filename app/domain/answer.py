"""The answer as the validator reads it (protocol, section 3)."""

from typing import Literal

import msgspec

from app.domain.backend import FinishReason
from app.domain.timing import TimingAnswer


class CalledFunction(msgspec.Struct, frozen=True):
    """The function of a tool call; `arguments` is always JSON text."""

    name: str
    arguments: str


class AnsweredToolCall(msgspec.Struct, frozen=True):
    """A whole tool call: half ones never leave the miner."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the engine counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMetadata(msgspec.Struct, frozen=True):
    """Only there when the challenge brought timing data."""

    timing_data: TimingAnswer


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The plaintext of an answer. `response_text` is never null: it is empty when the model only called tools."""

    response_text: str
    response_time_ms: int
    tool_calls: list[AnsweredToolCall] | None
    finish_reason: FinishReason
    usage: Usage
    correlation_id: str | None = None
    metadata: AnswerMetadata | msgspec.UnsetType = msgspec.UNSET


def encode_answer(encoder: msgspec.json.Encoder, answer: Answer) -> bytes:
    """The answer as UTF-8 JSON. Lone surrogates are replaced: an answer always encodes (threat 14)."""
    try:
        return encoder.encode(answer)
    except UnicodeEncodeError:
        calls = [
            AnsweredToolCall(
                _replace_surrogates(call.id),
                CalledFunction(_replace_surrogates(call.function.name), _replace_surrogates(call.function.arguments)),
            )
            for call in answer.tool_calls or ()
        ]
        text = _replace_surrogates(answer.response_text)
        return encoder.encode(msgspec.structs.replace(answer, response_text=text, tool_calls=calls or None))


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
