"""Reading JSON that strangers wrote (design decision 3, threats 13 and 14)."""

import re
from itertools import accumulate
from json import decoder as json_decoder
from typing import Final, Protocol, cast

import msgspec

from app.errors import ContentRefused

NESTING_LIMIT: Final = 64
_STRINGS_WALKED: Final = 128


class _Scanner(Protocol):
    """The standard library's own scanner, in C; it is in no type stub."""

    def scanstring(self, text: str, start: int, strict: bool, /) -> tuple[str, int]:  # noqa: FBT001 - as it is
        """Return the string whose opening quote ends at `start`, and the index behind its closing quote."""
        ...


_scanner: Final = cast("_Scanner", json_decoder)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")

_PATH: Final = re.compile(r" - at `([^`]*)`\Z")
# The messages of msgspec that hold nothing of the input; the others repeat a value or a key of it.
_HARMLESS: Final = re.compile(
    r"Expected `|Object missing required field `|JSON is malformed: |Input data was truncated"
    r"|Integer value out of range|Number out of range|Invalid UUID"
)


def decode[T](decoder: msgspec.json.Decoder[T], data: bytes | memoryview) -> T:
    """Return what `decoder` makes of `data`, or raise ContentRefused.

    Refused are wrong types, broken JSON, NaN, numbers out of range, more than 64 levels, bytes that are
    not UTF-8 and lone surrogates - the last two also inside fields taken as `msgspec.Raw`. (Numbers
    within such a field are not looked at: decode it with this function in turn.) The detail names the
    field and never repeats any of the input.
    """
    check_nesting(data)  # and UTF-8, for msgspec does not look into the strings of a Raw
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ContentRefused(_without_input(str(error))) from None
    except UnicodeError:
        raise _not_utf8() from None


def check_nesting(data: bytes | memoryview, limit: int = NESTING_LIMIT) -> None:
    """Raise ContentRefused when arrays and objects stand more than `limit` deep, or the text is not UTF-8.

    To be called before any decoder sees the bytes: decoders recurse, and in a thread with a small stack
    deep nesting ends the process. Broken JSON passes or is refused; up to its first error it is measured
    exactly, and no decoder goes beyond that.
    """
    try:
        text = str(data, "utf-8")
    except UnicodeError:
        raise _not_utf8() from None
    if _has_at_most(text, limit):
        return
    if _depth(_outside_strings(text)) > limit:
        raise ContentRefused(f"nested more than {limit} levels deep")


def _has_at_most(text: str, limit: int) -> bool:
    """Whether at most `limit` brackets open, in strings or not: the usual case, in a few microseconds."""
    find = text.find
    left = limit
    for bracket in "{[":
        at = find(bracket)
        while at >= 0:
            left -= 1
            if left < 0:
                return False
            at = find(bracket, at + 1)
    return True


def _outside_strings(text: str) -> bytes:
    """Return `text` without its strings, as UTF-8.

    The first strings are skipped one by one, which is fastest for few long ones; the rest goes in bulk,
    which is fastest for many short ones.
    """
    kept: list[str] = []
    start = 0
    for _ in range(_STRINGS_WALKED):
        opening = text.find('"', start)
        if opening < 0:
            break
        kept.append(text[start:opening])
        start = opening
        end = text.find('"', opening + 1)
        if end >= 0 and text.find("\\", opening, end) < 0:
            start = end + 1
            continue
        try:
            _, start = _scanner.scanstring(text, opening + 1, False)  # noqa: FBT003 - takes no keyword
        except ValueError:
            break  # never closed, or a wrong escape
    rest = text[start:].encode()
    if b"\\" in rest:
        rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"")
    return "".join(kept).encode() + b"".join(rest.split(b'"')[::2])


def _depth(structure: bytes) -> int:
    """Return how deep brackets stand in each other: one up for each that opens, one down for each that closes."""
    steps = structure.translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def _not_utf8() -> ContentRefused:
    return ContentRefused("the text is not UTF-8")


def _without_input(message: str) -> str:
    """Return msgspec's message if it repeats no input, else a text of our own with the same path."""
    if _HARMLESS.match(message):
        return message
    path = _PATH.search(message)
    return f"not an accepted value - at `{path[1]}`" if path else "not an accepted value"
