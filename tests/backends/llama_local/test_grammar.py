"""JSON schemas as grammars: what matches is valid, what is valid (in the schema's order) matches."""

import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest

from app.backends.llama_local.backend import LlamaLocalBackend
from app.backends.llama_local.bindings import Model
from app.backends.llama_local.grammar import Grammar, choice, literal
from app.backends.llama_local.grammar_numbers import integer_rule, number_rule
from app.backends.llama_local.order import Sampling
from app.backends.llama_local.sampler import Sampler, check_grammar
from app.errors import BackendRejected
from tests.backends.llama_local.asking import engine_of


@pytest.fixture
def model(backend: LlamaLocalBackend) -> Model:
    return engine_of(backend).model


def grammar_of(schema: object) -> str:
    grammar = Grammar()
    return grammar.text(grammar.schema(schema))


def matches(model: Model, grammar: str, text: str) -> bool:
    """Whether llama.cpp lets a model that wants to write exactly this text do so, and end there."""
    sampler = Sampler(model, Sampling(grammar=grammar))
    end = next(token for token in range(model.vocabulary_size) if model.ends(token))
    try:
        for token in [*model.tokenize(text), end]:
            scores = np.zeros(model.vocabulary_size, np.float32)
            scores[token] = 1
            if sampler.pick(scores) != token:
                return False
        return True
    finally:
        sampler.close()


PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "email": {"type": "string"}},
    "required": ["name", "age"],
}
TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["v", "next"],
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        (True, ["1", '{"a":[1,"x",null]}', "true"], ["", "{", "[1,]", "01", "tru", '{"a"}', "'a'"]),
        ({"type": "string"}, ['"a"', '""', r'"\"\\\n\u00e9"', '"\u4f60\U0001f600"'],
         ['"a', "a", '"\n"', '"\x01"', r'"\x"']),
        ({"type": "string"}, [r'"\u0041"', r'"\ud7ff"', r'"\ue000"'], [r'"\ud800"', r'"\uDFFF"', r'"\u12"']),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"abc"'], ['"a"', '"abcd"']),
        ({"type": "integer"}, ["0", "-7", "120"], ["1.0", "01", "-", "1e3", '"1"']),
        ({"type": "number"}, ["0.5", "-1", "1e3", "2.5E-3"], [".5", "1.", "+1", "NaN"]),
        ({"type": ["string", "null"]}, ['"a"', "null"], ["1"]),
        ({"enum": ["red", 'say "hi"', 3, None, {"a": [1]}]},
         ['"red"', r'"say \"hi\""', "3", "null", '{"a":[1]}'],
         ['"r"']),
        ({"const": "x"}, ['"x"'], ['"y"']),
        (PERSON, ['{"name":"A","age":3}', '{"name": "A", "age": 3, "email": "e"}'],
         ['{"name":"A"}', "{}", '{"age":3,"name":"A"}']),
        ({"properties": {"a": True, "b": True}}, ["{}", '{"a":1}', '{"b":1}', '{"a":1,"b":2}'],
         ['{"c":1}', '{"a":1,}', "{,}"]),
        ({"type": "object"}, ["{}", '{"x":{"y":1}}'], ["[]", "1"]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ['{"x":1}'], ['{"x":"1"}']),
        ({"type": "object", "additionalProperties": False}, ["{}"], ['{"x":1}']),
        ({"type": "object", "minProperties": 1}, ['{"x":1}'], ["{}"]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, ["[1]", "[1, 2]"],
         ["[]", "[1,2,3]", '["a"]']),
        ({"type": "array", "items": {"type": "boolean"}}, ["[]", "[true,false]"], ["[1]"]),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ({"prefixItems": [{"type": "integer"}, {"type": "string"}]}, ['[1,"a"]'], ["[1]", '["a",1]']),
        ({"oneOf": [{"type": "integer"}, {"type": "boolean"}]}, ["1", "true"], ['"a"']),
        ({"allOf": [PERSON, {"required": ["email"]}]}, ['{"name":"A","age":3,"email":"e"}'],
         ['{"name":"A","age":3}']),
        (TREE, ['{"v":1,"next":null}', '{"v":1,"next":{"v":2,"next":null}}'], ['{"v":1}', '{"v":1,"next":2}']),
        ({"type": "integer", "minimum": 18, "maximum": 120}, ["18", "99", "120"], ["17", "121", "-20", "1"]),
        ({"enum": ["a", "ab", "abc", "b", "", 'a"', 12, 123]},
         ['"a"', '"ab"', '"abc"', '"b"', '""', r'"a\""', "12", "123"],
         ['"abcd"', "1", '"ac"', '"', "1234"]),
        ({"type": "string", "format": "date"}, ['"2024-02-28"', '"1999-12-01"'], ['"2024-13-01"', '"24-01-01"', '"x"']),
        ({"type": "string", "format": "time"}, ['"23:59:59Z"', '"00:00:00.5+02:00"'], ['"24:00:00Z"', '"1:00:00Z"']),
        ({"type": "string", "format": "date-time"}, ['"2024-02-28T10:00:00Z"'], ['"2024-02-28"', '"2024-02-28 10:00"']),
        ({"type": "string", "format": "uuid"}, ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123e4567"', '""']),
        ({"type": "string", "format": "email"}, ['"jo.doe@mail.example.org"'], ['"jo"', '"@a.org"', '"jo@a_b.org"']),
        ({"type": "string", "format": "ipv4"},
         ['"192.168.0.255"', '"0.0.0.0"'], ['"256.1.1.1"', '"1.2.3"', '"01.2.3.4"']),
        ({"type": "string", "format": "of my own"}, ['"x"'], ["1"]),
        ({"type": "number", "minimum": 0, "maximum": 1}, ["0", "1", "0.25"], ["1.5", "-0.5", "2"]),
    ],
)  # fmt: skip
def test_a_grammar_lets_through_what_is_valid_and_nothing_else(
    model: Model, schema: object, valid: list[str], invalid: list[str]
) -> None:
    grammar = grammar_of(schema)
    for text in valid:
        jsonschema.validate(json.loads(text), schema)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
        assert matches(model, grammar, text), text
    for text in invalid:
        assert not matches(model, grammar, text), text


@pytest.mark.parametrize(
    "schema",
    [
        False,
        7,
        {"type": "strange"},
        {"type": "object", "properties": 7},
        {"type": "object", "properties": {"a": False}},
        {"enum": []},
        {"enum": list(range(501))},
        {"anyOf": []},
        {"$ref": "http://example.com/schema"},
        {"$ref": "#/$defs/none"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "object", "properties": {f"p{number}": {"enum": [number]} for number in range(3000)}},
        {"anyOf": [{"enum": [f"c{many}-{number}" for number in range(100)]} for many in range(20)]},
        {"enum": [f"{number}" + "x" * 2000 for number in range(200)]},
    ],
    ids=range(15),
)
def test_a_schema_that_cannot_be_used_is_refused(schema: object) -> None:
    with pytest.raises(BackendRejected, match="the JSON schema"):
        grammar_of(schema)


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"anyOf": [{"$ref": "#"}, {"type": "null"}]}])
def test_a_schema_that_begins_with_itself_is_refused_and_the_process_lives(model: Model, schema: object) -> None:
    with pytest.raises(BackendRejected):
        check_grammar(model, grammar_of(schema))


def test_a_grammar_refused_most_of_the_vocabulary_still_picks_the_best_it_allows(model: Model) -> None:
    """The allowed token is the worst of all: it is found, and the largest grammars take no seconds to tell."""
    sampler = Sampler(model, Sampling(grammar=grammar_of({"enum": [f"choice-{number}" for number in range(500)]})))
    scores = np.arange(model.vocabulary_size, 0, -1, dtype=np.float32)
    wanted = model.tokenize('"')[0]
    others = [token for token in range(model.vocabulary_size) if model.piece(token).startswith(b'"')]
    scores[others] = 0.25
    scores[wanted] = 0.5
    assert sampler.pick(scores) == wanted
    sampler.close()


def test_choices_that_begin_alike_share_their_beginning() -> None:
    assert choice(["ab", "abc", "abd", "x"]) == '"ab" ("" | "c" | "d") | "x"'


def as_pattern(rule: str) -> re.Pattern[str]:
    """The small part of GBNF that numbers use, as a regular expression."""
    return re.compile(rule.replace('"."', "\\.").replace('"', "").replace(" ", ""))


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 0), (0, 9), (3, 7), (5, 15), (0, 100), (18, 120), (99, 101), (123, 4567), (-5, 5), (-120, -18), (-37, 1204)],
)
def test_integers_between_bounds(low: int, high: int) -> None:
    rule = integer_rule({"minimum": low, "maximum": high})
    assert rule is not None
    pattern = as_pattern(rule)
    for number in range(low - 300, high + 300):
        assert bool(pattern.fullmatch(str(number))) == (low <= number <= high), number


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.5, 3.5), (-2, 2), (-3.5, -1), (10, 20)])
def test_numbers_between_bounds(low: float, high: float) -> None:
    rule = number_rule({"minimum": low, "maximum": high})
    assert rule is not None
    pattern = as_pattern(rule)
    matching = [number / 10 for number in range(-100, 300) if pattern.fullmatch(f"{number / 10:g}")]
    assert all(low <= number <= high for number in matching)
    assert len(matching) > (high - low) * 3


def test_exclusive_and_open_bounds() -> None:
    above = as_pattern(integer_rule({"exclusiveMinimum": 5}) or "")
    assert [number for number in range(-20, 20) if above.fullmatch(str(number))] == list(range(6, 20))
    below = as_pattern(integer_rule({"exclusiveMaximum": 5}) or "")
    assert [number for number in range(-20, 20) if below.fullmatch(str(number))] == list(range(-20, 5))
    assert integer_rule({}) is None
    assert number_rule({"minimum": True}) is None


def test_a_literal_may_hold_anything(model: Model) -> None:
    for text in ('a"b\\c', "\u4f60\U0001f600", "tab\tnew\nline"):
        assert matches(model, Grammar().text(literal(text)), text)
