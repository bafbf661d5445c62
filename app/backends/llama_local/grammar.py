"""JSON schemas become GBNF, llama.cpp's grammar: whatever matches is valid JSON, and valid by the schema.

Strings hold no raw control characters and no lone surrogates; objects list their properties in the schema's order.
Of `format`, date, time, date-time, uuid, email and ipv4 are held. What a grammar can't say, or not for sure (`pattern`,
`uniqueItems`, `multipleOf`, `not` and other formats), is left to the model, as OpenAI does where `strict` is not set.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, cast

import msgspec

from app.backends.llama_local.grammar_numbers import integer_rule, number_rule
from app.errors import BackendRejected

type Schema = Mapping[str, Any]

_MOST_RULES: Final = 2000
_MOST_CHOICES: Final = 500
_MOST_BRANCHES: Final = 1000
"""Values, options and properties in all. llama.cpp follows every way that a text may still go on, for every token that
it looks at, and everybody waits for that: 500 choices that begin alike were seen to take two seconds a token."""
_MOST_TEXT: Final = 262_144
_MOST_REPEATS: Final = 1000
"""llama.cpp unrolls repetitions and refuses long ones; what a schema asks beyond is cut."""

_BASE: Final[Mapping[str, str]] = {
    "space": '" "?',
    "hex": "[0-9a-fA-F]",
    "escape": r'["\\/bfnrt] | "u" ([0-9abcefABCEF] hex | [dD] [0-7]) hex hex',
    "char": r'[^"\\\x00-\x1F\x7F] | "\\" escape',
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,14})',
    "number": 'integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "member": 'string ":" space value',
    "object": '"{" (member ("," space member)*)? "}"',
    "array": '"[" (value ("," space value)*)? "]"',
    "value": "object | array | string | number | boolean | null",
}
_NOTES: Final = frozenset({"title", "description", "default", "examples", "$schema", "$id", "$defs", "definitions"})
"""Keywords that ask nothing of a value."""
_ANY: Final[Schema] = {}
_DEEPEST: Final = 40
_DATE: Final = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
"""Up to the 28th: every month has that day."""
_TIME: Final = (
    '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})?'
    ' ("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
)
_BYTE: Final = '("25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9])'
_WORD: Final = "[A-Za-z0-9] [A-Za-z0-9_-]{0,30} [A-Za-z0-9]"
_LABEL: Final = "[A-Za-z0-9] [A-Za-z0-9-]{0,30} [A-Za-z0-9]"
_FORMATS: Final[Mapping[object, str]] = {
    "date": f'"\\"" {_DATE} "\\""',
    "time": f'"\\"" {_TIME} "\\""',
    "date-time": f'"\\"" {_DATE} "T" {_TIME} "\\""',
    "uuid": f'"\\"" {" [-] ".join(f"hex{{{digits}}}" for digits in (8, 4, 4, 4, 12))} "\\""',
    "email": f'"\\"" {_WORD} ("." {_WORD}){{0,3}} "@" {_LABEL} ("." {_LABEL}){{1,3}} "\\""',
    "ipv4": f'"\\"" {_BYTE} "." {_BYTE} "." {_BYTE} "." {_BYTE} "\\""',
}


def literal(text: str) -> str:
    """GBNF that matches exactly this text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in escaped) + '"'


def choice(texts: Sequence[str]) -> str:
    """GBNF that matches one of these texts; what several begin with stands there once.

    So a text can go on in few ways at any place, however many there are: see `_MOST_BRANCHES`.
    """
    return _forks(sorted(set(texts)), 0)


def _forks(texts: Sequence[str], depth: int) -> str:
    if depth > _DEEPEST or len(texts) == 1:
        return " | ".join(literal(text) for text in texts)
    parts: list[str] = []
    for _, group in groupby(texts, key=lambda text: text[:1]):
        alike = list(group)
        start = _common(alike[0], alike[-1])  # sorted: what the first and the last share, all do
        rests = [text[len(start) :] for text in alike]
        parts.append(literal(start) + (f" ({_forks(rests, depth + 1)})" if len(rests) > 1 else ""))
    return " | ".join(parts)


def _common(first: str, second: str) -> str:
    length = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    return first[:length] if length is not None else min(first, second, key=len)


class Grammar:
    """Rules, collected while schemas are read."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = dict(_BASE)
        self._branches = 0

    def text(self, root: str) -> str:
        """The grammar whose texts match `root`."""
        rules = {"root": root, **self._rules}
        text = "\n".join(f"{name} ::= {body}" for name, body in rules.items()) + "\n"
        if len(text) > _MOST_TEXT:
            raise BackendRejected(f"the JSON schema is too large: its grammar takes more than {_MOST_TEXT >> 10} KB")
        return text

    def branch(self, ways: int) -> None:
        """Note that a text may go on in so many ways more; `BackendRejected` when they become too many."""
        self._branches += ways
        if self._branches > _MOST_BRANCHES:
            raise BackendRejected(
                f"the JSON schema is too large: it has more than {_MOST_BRANCHES} enum values, options and properties"
            )

    def schema(self, schema: object) -> str:
        """The name of a rule whose texts are valid by the schema; `BackendRejected` when that can't be."""
        try:
            return _SchemaReader(self, schema).rule(schema)
        except (AttributeError, TypeError, ValueError, RecursionError) as error:
            # A keyword of a wrong type, or a schema that is a part of itself without anything between.
            raise BackendRejected("the JSON schema can't be used: a keyword has a wrong type or never ends") from error

    def add(self, body: str) -> str:
        """A rule of its own for `body`."""
        if len(self._rules) >= _MOST_RULES:
            raise BackendRejected(f"the JSON schema is too large: it needs more than {_MOST_RULES} grammar rules")
        name = f"r{len(self._rules)}"
        self._rules[name] = body
        return name

    def reserve(self) -> str:
        """A rule's name before its body is known: schemas may contain themselves."""
        return self.add("")

    def define(self, name: str, body: str) -> None:
        """Give a reserved rule its body."""
        self._rules[name] = body


class _SchemaReader:
    """One schema with its references."""

    def __init__(self, grammar: Grammar, root: object) -> None:
        self._grammar = grammar
        self._root = root
        self._referred: dict[str, str] = {}
        self._builders: Final[Mapping[str, Callable[[Schema], str]]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": lambda schema: self._bounded(integer_rule(schema), "integer"),
            "number": lambda schema: self._bounded(number_rule(schema), "number"),
            "boolean": lambda _: "boolean",
            "null": lambda _: "null",
        }

    def rule(self, schema: object) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            raise BackendRejected("the JSON schema can't be used: a part of it allows nothing, or is no object")
        return self._of(cast("Schema", schema))

    def _of(self, schema: Schema) -> str:
        if isinstance(reference := schema.get("$ref"), str):
            return self._refer(reference)
        if "const" in schema:
            return self._choice([schema["const"]])
        if isinstance(choices := schema.get("enum"), list):
            return self._choice(cast("list[object]", choices))
        for word in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(word), list):
                return self._any(schema, word, cast("list[object]", options))
        if isinstance(parts := schema.get("allOf"), list):
            return self._of(self._merge(schema, cast("list[object]", parts)))
        return self._typed(schema)

    def _typed(self, schema: Schema) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            kinds = cast("list[object]", kind)
            return self._grammar.add(" | ".join(self._of({**schema, "type": each}) for each in kinds) or "null")
        if kind is None:
            kind = _implied(schema)
        if kind is None:
            return "value"
        if not isinstance(kind, str) or kind not in self._builders:
            raise BackendRejected(f"the JSON schema can't be used: types are {', '.join(self._builders)}")
        return self._builders[kind](schema)

    def _bounded(self, body: str | None, free: str) -> str:
        return free if body is None else self._grammar.add(body)

    def _choice(self, values: Sequence[object]) -> str:
        if not 0 < len(values) <= _MOST_CHOICES:
            raise BackendRejected(f"the JSON schema can't be used: an enum has 1 to {_MOST_CHOICES} values")
        self._grammar.branch(len(values))
        return self._grammar.add(choice([msgspec.json.encode(value).decode() for value in values]))

    def _any(self, schema: Schema, word: str, options: Sequence[object]) -> str:
        if not 0 < len(options) <= _MOST_CHOICES:
            raise BackendRejected(f"the JSON schema can't be used: {word} has 1 to {_MOST_CHOICES} schemas")
        self._grammar.branch(len(options))
        rest = {key: value for key, value in schema.items() if key != word and key not in _NOTES}
        if rest:
            return self._grammar.add(" | ".join(self._of(self._merge(rest, [option])) for option in options))
        return self._grammar.add(" | ".join(self.rule(option) for option in options))

    def _merge(self, schema: Schema, parts: Sequence[object]) -> Schema:
        """What holds when all parts hold, as far as keywords can be put together."""
        merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
        for part in parts:
            resolved = self._resolve(part)
            for key, value in resolved.items():
                if key == "properties" and key in merged:
                    merged[key] = {**merged[key], **value}
                elif key == "required" and key in merged:
                    merged[key] = [*merged[key], *value]
                else:
                    merged[key] = value
        return merged

    def _resolve(self, part: object) -> Schema:
        if part is True:
            return _ANY
        if not isinstance(part, Mapping):
            raise BackendRejected("the JSON schema can't be used: a part of it allows nothing, or is no object")
        schema = cast("Schema", part)
        seen: set[str] = set()
        while isinstance(reference := schema.get("$ref"), str) and reference not in seen and len(schema) == 1:
            seen.add(reference)
            found = self._find(reference)
            if not isinstance(found, Mapping):
                return _ANY
            schema = cast("Schema", found)
        return schema

    def _refer(self, reference: str) -> str:
        if reference not in self._referred:
            name = self._referred[reference] = self._grammar.reserve()
            self._grammar.define(name, self.rule(self._find(reference)))
        return self._referred[reference]

    def _find(self, reference: str) -> object:
        """Follow a JSON pointer inside the schema."""
        if not reference.startswith("#"):
            raise BackendRejected("the JSON schema can't be used: every $ref must begin with '#'")
        at: object = self._root
        for step in reference[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(at, Mapping) or key not in at:
                raise BackendRejected("the JSON schema can't be used: a $ref points to nothing")
            at = cast("Mapping[str, object]", at)[key]
        return at

    def _object(self, schema: Schema) -> str:
        properties = cast("Mapping[str, object]", schema.get("properties") or {})
        if not properties:
            return self._map(schema)
        self._grammar.branch(len(properties))
        required = set(cast("Sequence[str]", schema.get("required") or ()))
        # From the last property to the first: what may follow when something came before, and when nothing did.
        after, first = '""', '""'
        for name, part in reversed(list(properties.items())):
            pair = f"{literal(msgspec.json.encode(name).decode() + ':')} space {self.rule(part)}"
            if name in required:
                after, first = self._grammar.add(f'"," space {pair} {after}'), self._grammar.add(f"{pair} {after}")
            else:
                first = self._grammar.add(f"{pair} {after} | {first}")
                after = self._grammar.add(f'("," space {pair})? {after}')
        return self._grammar.add(f'"{{" {first} "}}"')

    def _map(self, schema: Schema) -> str:
        values = schema.get("additionalProperties", True)
        least, most = _counts(schema, "minProperties", "maxProperties")
        if values is False and not least:
            return self._grammar.add('"{}"')
        if least == 0 and most is None and not isinstance(values, Mapping):
            return "object"
        member = self._grammar.add(f'string ":" space {self.rule(cast("object", values))}')
        return self._grammar.add(f'"{{" {_list(member, least, most)} "}}"')

    def _array(self, schema: Schema) -> str:
        least, most = _counts(schema, "minItems", "maxItems")
        fixed = schema.get("prefixItems")
        if isinstance(fixed, list) and fixed:
            items = [self.rule(item) for item in cast("list[object]", fixed)]
            return self._grammar.add('"[" ' + ' "," space '.join(items) + ' "]"')
        if "items" not in schema and least == 0 and most is None:
            return "array"
        return self._grammar.add(f'"[" {_list(self.rule(schema.get("items", True)), least, most)} "]"')

    def _string(self, schema: Schema) -> str:
        if (form := schema.get("format")) in _FORMATS:
            return self._grammar.add(_FORMATS[form])
        least, most = _counts(schema, "minLength", "maxLength")
        if least == 0 and most is None:
            return "string"
        return self._grammar.add(f'"\\"" char{{{least},{"" if most is None else most}}} "\\""')


def _implied(schema: Schema) -> str | None:
    """The type that a schema without `type` speaks of."""
    if schema.keys() & {"properties", "required", "additionalProperties"}:
        return "object"
    return "array" if schema.keys() & {"items", "prefixItems"} else None


def _counts(schema: Schema, least: str, most: str) -> tuple[int, int | None]:
    low, high = schema.get(least), schema.get(most)
    lower = min(max(low, 0), _MOST_REPEATS) if isinstance(low, int) else 0
    if not isinstance(high, int) or high > _MOST_REPEATS:
        return lower, None
    if high < lower:
        raise BackendRejected(f"the JSON schema can't be used: {most} is less than {least}, or than 0")
    return lower, high


def _list(item: str, least: int, most: int | None) -> str:
    """`item` so many times, with commas between."""
    if most == 0:
        return '""'
    further = f'("," space {item}){{{max(0, least - 1)},{"" if most is None else most - 1}}}'
    return f"{item} {further}" if least else f"({item} {further})?"
