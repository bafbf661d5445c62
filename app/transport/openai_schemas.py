"""The bodies of /v1 as the OpenAI API has them: a completion, the chunks of a stream, and the list of models."""

from typing import Literal

import msgspec

from app.domain.answer import AnsweredToolCall, Usage
from app.domain.backend import FinishReason


class Identity(msgspec.Struct, frozen=True):
    """What is the same in all chunks of a completion."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What the model said; without a text when it only called tools."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[AnsweredToolCall] | msgspec.UnsetType = msgspec.UNSET


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The one choice there is."""

    index: int = 0
    message: Message
    logprobs: None = None
    finish_reason: FinishReason


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole completion."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: tuple[Choice]
    usage: Usage
    system_fingerprint: str


class FunctionPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a called function; the name comes with the first one."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    arguments: str


class ToolCallPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call; id and type come with the first one."""

    index: int
    id: str | msgspec.UnsetType = msgspec.UNSET
    function: FunctionPiece
    type: Literal["function"] | msgspec.UnsetType = msgspec.UNSET


class DeltaPiece(msgspec.Struct, frozen=True, kw_only=True):
    """What is new."""

    role: Literal["assistant"] | msgspec.UnsetType = msgspec.UNSET
    content: str | msgspec.UnsetType | None = msgspec.UNSET
    refusal: msgspec.UnsetType | None = msgspec.UNSET
    tool_calls: list[ToolCallPiece] | msgspec.UnsetType = msgspec.UNSET


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The one choice of a chunk."""

    index: int = 0
    delta: DeltaPiece
    logprobs: None = None
    finish_reason: FinishReason | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "loosh-miner"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]
