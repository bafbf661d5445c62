"""JSON Schemas of the bodies that are read and written as bytes, made from the very structs that do it."""

from typing import Any

import msgspec

from app.domain.answer import Answer
from app.domain.challenge import Challenge, ChosenTool, Message, Tool
from app.protocol.handshake import KeyExchange


def body_schemas(ref_template: str) -> dict[str, Any]:
    """`KeyExchange`, `Challenge`, `Answer` and what they refer to, by name.

    Parts that are passed on untouched have no type in the structs; their schemas are put in here.
    """
    _, schemas = msgspec.json.schema_components(
        (KeyExchange, Challenge, Message, Tool, ChosenTool, Answer), ref_template=ref_template
    )

    def ref(name: str) -> dict[str, str]:
        return {"$ref": ref_template.format(name=name)}

    def or_null(schema: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [schema, {"type": "null"}]}

    schemas["KeyExchange"]["properties"]["timestamp"] = {"type": "number"}
    challenge = schemas["Challenge"]
    messages = {"type": "array", "items": ref("Message"), "minItems": 1}
    challenge["properties"] |= {
        "messages": or_null(messages),
        "tools": or_null({"type": "array", "items": ref("Tool")}),
        "tool_choice": or_null({"anyOf": [{"enum": ["auto", "none", "required"]}, ref("ChosenTool")]}),
    }
    challenge["anyOf"] = [
        {"required": ["messages"], "properties": {"messages": messages}},
        {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
    ]
    return schemas
