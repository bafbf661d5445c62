"""Hostile JSON: how deep, what is refused, and that no refusal repeats it (threats 13 and 14)."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ContentRefused
from app.protocol.json_shape import check_nesting, decode


class Text(msgspec.Struct, tag="text"):
    text: str


class Image(msgspec.Struct, tag="image"):
    url: str


class Content(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    count: int = 0
    share: float = 0.0
    kind: Literal["a", "b"] = "a"
    part: Text | Image | None = None
    table: dict[str, int] = {}
    raw: msgspec.Raw = msgspec.Raw(b"null")
    anything: Any = None


CONTENT = msgspec.json.Decoder(Content)
ANYTHING = msgspec.json.Decoder(Any)


def refused(data: bytes, decoder: msgspec.json.Decoder[Any] = CONTENT) -> str:
    with pytest.raises(ContentRefused) as error:
        decode(decoder, data)
    assert error.value.status == 422
    return error.value.detail


def outside_strings(text: str) -> Iterator[str]:
    """The characters that are in no string, up to the first wrong escape, one by one."""
    in_string = escaped = False
    for character in text:
        if escaped:
            if character not in '"\\/bfnrtu':
                return
            escaped = False
        elif character == "\\":
            if not in_string:
                return
            escaped = True
        elif character == '"':
            in_string = not in_string
        elif not in_string:
            yield character


def naive_depth(text: str) -> int:
    """The greatest depth up to the first error."""
    stack: list[str] = []
    deepest = 0
    for character in outside_strings(text):
        if character in "[{":
            stack.append(character)
            deepest = max(deepest, len(stack))
        elif character in "]}" and (not stack or stack.pop() + character not in ("[]", "{}")):
            break
    return deepest


def is_too_deep(data: bytes, limit: int) -> bool:
    try:
        check_nesting(data, limit)
    except ContentRefused:
        return True
    return False


AWKWARD = st.text(alphabet='[]{}"\\:,ab€😀\n', max_size=12)
DOCUMENTS = st.recursive(
    AWKWARD | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(AWKWARD, inner, max_size=3),
    max_leaves=30,
)
# So many short strings in front that the rest is measured in bulk, not string by string.
MANY_STRINGS = ", ".join(['"[{"'] * 200)


@given(DOCUMENTS, st.integers(0, 6), st.sampled_from(["", "in bulk"]), st.sampled_from([True, False]))
def test_threat_13_depth_of_sound_json_is_exact(
    document: object,
    limit: int,
    in_bulk: str,
    ascii_only: object,
) -> None:
    text = json.dumps(document, ensure_ascii=bool(ascii_only))
    if in_bulk:
        text = f"[{MANY_STRINGS}, {text}]"
    assert is_too_deep(text.encode(), limit) == (naive_depth(text) > limit)


@given(st.text(alphabet='[]{}"\\a', max_size=40), st.integers(0, 5), st.sampled_from(["", "in bulk"]))
def test_threat_13_broken_json_is_never_measured_too_low(
    text: str,
    limit: int,
    in_bulk: str,
) -> None:
    if in_bulk:
        text = MANY_STRINGS + text
    if naive_depth(text) > limit:
        assert is_too_deep(text.encode(), limit)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('["]",[', "]]"), ('{"a":[', "]}")])
def test_sixty_four_levels_are_taken_and_no_more(opening: str, closing: str) -> None:
    times = 64 // sum(opening.count(bracket) for bracket in "[{")
    text = opening * times + "1" + closing * times
    assert decode(ANYTHING, text.encode())
    assert "nested" in refused(f"[{text}]".encode(), ANYTHING)


def test_brackets_in_strings_are_text() -> None:
    brackets = "[{" * 1000
    assert decode(ANYTHING, json.dumps([brackets, {brackets: brackets}]).encode())
    assert decode(ANYTHING, f"[{MANY_STRINGS}, {json.dumps(brackets)}]".encode())


DEEP = {
    "one more": b"[" * 65 + b"]" * 65,
    "arrays": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "never closed": b"[" * 100_000,
    "behind strings": b"[" + b'"[",' * 1000 + b"[" * 65 + b"]" * 66,
    "behind escaped quotes": b'["' + b'\\"' * 1000 + b'",' + b"[" * 65 + b"]" * 66,
    "behind backslashes": b'["' + b"\\\\" * 1000 + b'",' + b"[" * 65 + b"]" * 66,
    "behind a wrong start": b"[1," + b"[" * 100_000,
    "in an unread field": b'{"anything": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "in a raw field": b'{"raw": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("name", DEEP)
def test_threat_13_deep_nesting_is_refused_also_on_a_small_stack(name: str) -> None:
    """A decoder that recursed 100 000 deep would end the process here."""
    details: list[str] = []

    def run() -> None:
        details.extend(refused(DEEP[name], decoder) for decoder in (ANYTHING, CONTENT))

    before = threading.stack_size(64 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert details == ["nested more than 64 levels deep"] * 2


ODD = {
    "empty": b"",
    "blank": b"  \n",
    "truncated": b'{"name": "x", "cou',
    "truncated string": b'{"name": "x',
    "truncated escape": b'{"name": "\\',
    "not a number": b'{"share": NaN}',
    "not a number in raw": b'{"raw": NaN}',
    "infinite": b'{"share": Infinity}',
    "infinite in raw": b'{"raw": -Infinity}',
    "5000 digits": b'{"count": ' + b"9" * 5000 + b"}",
    "5000 digits in any": b'{"anything": ' + b"9" * 5000 + b"}",
    "5000 digits of a float": b'{"share": ' + b"9" * 5000 + b"}",
    "exponent": b'{"share": 1e999999}',
    "wrong type": b'{"name": 1}',
    "array for object": b"[]",
    "text for object": b'"x"',
    "null": b"null",
    "two documents": b"{}{}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "NUL": b'{"name": "\x00"}',
    "NULs": b"\x00" * 1000,
    "control character": b'{"name": "a\nb"}',
    "comment": b'{"name": "x"} // why',
    "single quotes": b"{'name': 'x'}",
    "trailing comma": b'{"name": "x",}',
    "unknown field": b'{"surprise": 1}',
    "300 000 keys": b"{" + b",".join(b'"k%d":1' % number for number in range(300_000)) + b"}",
    "300 000 values of a wrong type": b'{"table": {' + b",".join(b'"k%d":"x"' % n for n in range(300_000)) + b"}}",
    "only quotes": b"[" * 65 + b'"' * 500_000,
    "only backslashes": b"[" * 65 + b'"' + b"\\" * 500_000,
    "comb": (b"[" * 60 + b"]" * 60) * 4000,
}


@pytest.mark.parametrize("name", ODD)
def test_threat_13_odd_json_is_422_at_once(name: str) -> None:
    before = time.thread_time()
    detail = refused(ODD[name])
    assert time.thread_time() - before < 0.2
    assert len(detail) < 200


def test_threat_13_many_keys_are_taken_where_they_fit() -> None:
    table = {f"k{number}": number for number in range(50_000)}
    assert decode(CONTENT, json.dumps({"table": table}).encode()).table == table


NOT_TEXT = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80", b"a\xe2\x82"]
LONE = [rb"\ud800", rb"\uDC00", rb"\udbff\ud800", rb"a\ud800b", rb"\ud83d\u0041", rb"\\\ud800"]


@pytest.mark.parametrize("field", ["name", "raw", "anything", "kind"])
@pytest.mark.parametrize("text", NOT_TEXT + LONE)
def test_threat_14_what_is_no_unicode_is_refused_in_every_field(field: str, text: bytes) -> None:
    refused(b'{"%s": "%s"}' % (field.encode(), text))
    refused(b'{"raw": [{"deeper": ["%s"]}]}' % text)
    refused(b'{"raw": {"%s": 1}}' % text)


def test_threat_14_what_is_unicode_is_taken() -> None:
    content = decode(CONTENT, rb'{"name": "\ud83d\ude00 \\ud800 \u0000 \uffff", "raw": "\ud83d\ude00"}')
    assert content.name == "😀 \\ud800 \0 \uffff"
    assert decode(CONTENT, '{"name": "😀€é"}'.encode()).name == "😀€é"


def test_a_memoryview_is_as_good() -> None:
    data = memoryview(b'xx{"name": "n"}')[2:]
    assert decode(CONTENT, data).name == "n"


SECRET = "s3cret"


@pytest.mark.parametrize(
    "data",
    [
        f'{{"kind": "{SECRET}"}}',
        f'{{"part": {{"type": "{SECRET}"}}}}',
        f'{{"{SECRET}": 1}}',
        f'{{"table": {{"{SECRET}": "{SECRET}"}}}}',
        f'{{"count": "{SECRET}"}}',
        f'{{"name": ["{SECRET}"]}}',
        f'{{"kind": "{SECRET} - at `$.{SECRET}`"}}',
        f'{{"kind": "{SECRET}\\n - at `$.{SECRET}`\\n"}}',
        f'{{"kind": "Expected `{SECRET}"}}',
        f"{SECRET}",
        f'{{"name": "{SECRET}\\ud800"}}',
        f'{{"name": "x" {SECRET}',
        f'"{SECRET}"',
    ],
)
def test_threat_18_a_refusal_repeats_nothing(data: str) -> None:
    assert SECRET not in refused(data.encode())
    assert SECRET not in refused(f"[{data}]".encode(), msgspec.json.Decoder(list[Content]))


def test_a_refusal_names_the_field() -> None:
    assert refused(b'{"count": "x"}') == "Expected `int`, got `str` - at `$.count`"
    assert refused(b'{"kind": "x"}') == "not an accepted value - at `$.kind`"
    assert refused(b'{"part": {"type": "text"}}') == "Object missing required field `text` - at `$.part`"
