"""Reading JSON that strangers wrote (design decision 3, threats 13 and 14)."""

import re
from typing import Final

import msgspec

from app.errors import ContentRefused

NESTING_LIMIT: Final = 64
_STRINGS_WALKED: Final = 512

_BACKSLASH: Final = 0x5C
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")

_PATH: Final = re.compile(r" - at `([^`]*)`\Z")
# The messages of msgspec that hold nothing of the input; the others repeat a value or a key of it.
_HARMLESS: Final = re.compile(
    r"Expected `|Object missing required field `|JSON is malformed: |Input data was truncated"
    r"|Integer value out of range|Number out of range|Invalid UUID"
)


def decode[T](decoder: msgspec.json.Decoder[T], data: bytes | memoryview) -> T:
    """Return what `decoder` makes of `data`, or raise ContentRefused.

    Refused are wrong types, broken JSON, NaN, numbers out of range, more than 64 levels, bytes that are
    not UTF-8 and lone surrogates - the last two also inside fields taken as `msgspec.Raw`. The detail
    names the field and never repeats any of the input.
    """
    text = bytes(data)
    check_nesting(text)
    try:
        if not text.isascii():
            text.decode()  # msgspec does not look into the strings of a Raw or of an unknown field
        return decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise ContentRefused(_without_input(str(error))) from None
    except UnicodeError:
        raise ContentRefused("the text is not UTF-8") from None
    except RecursionError:
        raise ContentRefused("nested too deeply") from None


def check_nesting(data: bytes | memoryview, limit: int = NESTING_LIMIT) -> None:
    """Raise ContentRefused when arrays and objects stand more than `limit` deep.

    To be called before any decoder sees the bytes: decoders recurse, and in a thread with a small stack
    deep nesting ends the process. Broken JSON passes or is refused; up to its first error it is measured
    exactly, and no decoder goes beyond that.
    """
    text = bytes(data)
    if _has_at_most(text, limit):
        return
    if _depth(_outside_strings(text), limit) > limit:
        raise ContentRefused(f"nested more than {limit} levels deep")


def _has_at_most(text: bytes, limit: int) -> bool:
    """Whether at most `limit` brackets open, in strings or not: the usual case, in a few microseconds."""
    find = text.find
    left = limit
    for bracket in (b"{", b"["):
        at = find(bracket)
        while at >= 0:
            left -= 1
            if left < 0:
                return False
            at = find(bracket, at + 1)
    return True


def _outside_strings(text: bytes) -> bytes:
    """Return `text` without its strings. Few long strings are skipped one by one, many short ones in bulk."""
    kept: list[bytes] = []
    start = 0
    for _ in range(_STRINGS_WALKED):
        opening = text.find(b'"', start)
        if opening < 0:
            kept.append(text[start:])
            return b"".join(kept)
        kept.append(text[start:opening])
        start = _after_string(text, opening)
        if start < 0:
            return b"".join(kept)
    rest = text[start:]
    if b"\\" in rest:
        rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"")
    kept += rest.split(b'"')[::2]
    return b"".join(kept)


def _after_string(text: bytes, opening: int) -> int:
    """Return where the string that opens at `opening` has ended, or -1 when it never does."""
    at = text.find(b'"', opening + 1)
    while at > 0 and text[at - 1] == _BACKSLASH:
        first = at - 1
        while text[first - 1] == _BACKSLASH:
            first -= 1
        if (at - first) % 2 == 0:
            break
        at = text.find(b'"', at + 1)
    return at + 1 if at >= 0 else -1


def _depth(structure: bytes, limit: int) -> int:
    """Return how deep brackets stand in each other, exact up to `limit` + 1.

    Each round takes the innermost pairs away, so that the number of rounds is the depth.
    """
    brackets = structure.translate(_ONE_KIND, _NO_BRACKETS)
    rounds = 0
    while brackets and rounds <= limit:
        inner_gone = brackets.replace(b"[]", b"")
        if len(inner_gone) == len(brackets):
            return rounds + brackets.count(b"[")  # what never closes
        brackets = inner_gone
        rounds += 1
    return rounds


def _without_input(message: str) -> str:
    """Return msgspec's message if it repeats no input, else a text of our own with the same path."""
    if _HARMLESS.match(message):
        return message
    path = _PATH.search(message)
    return f"not an accepted value - at `{path[1]}`" if path else "not an accepted value"
