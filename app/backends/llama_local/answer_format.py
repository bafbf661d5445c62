"""`response_format`: the grammar that an answer must match."""

from typing import Any, Final

import msgspec

from app.backends.llama_local.grammar import Grammar
from app.errors import BackendRejected


class _Named(msgspec.Struct):
    schema: dict[str, Any] | bool = True


class _Text(msgspec.Struct, tag="text"):
    pass


class _JsonObject(msgspec.Struct, tag="json_object"):
    pass


class _JsonSchema(msgspec.Struct, tag="json_schema"):
    json_schema: _Named


_FORMAT: Final = msgspec.json.Decoder(_Text | _JsonObject | _JsonSchema | None)


def format_rule(grammar: Grammar, raw: bytes | None) -> str | None:
    """The rule that the whole answer must match; None where any text will do."""
    try:
        wanted = _FORMAT.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackendRejected(f"response_format can't be read: {error}") from error
    match wanted:
        case _JsonObject():
            return "object"
        case _JsonSchema(json_schema=named):
            return grammar.schema(named.schema)
        case _:
            return None
