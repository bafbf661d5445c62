"""Numbers between bounds, as GBNF."""

import math
from collections.abc import Mapping
from typing import Any, Final

_FAR: Final = 10**15
"""A bound beyond this is none: floats are not exact there."""


def integer_rule(schema: Mapping[str, Any]) -> str | None:
    """GBNF for the integers a schema allows; None when it sets no bound."""
    low, high = _bounds(schema)
    if low is None and high is None:
        return None
    least = -_FAR if low is None else low
    most = _FAR if high is None else high
    return _between(math.ceil(least), math.floor(most)) or '"0"'


def number_rule(schema: Mapping[str, Any]) -> str | None:
    """GBNF for numbers a schema allows: the integers, and decimals that are between two integers in the bounds."""
    low, high = _bounds(schema)
    if low is None and high is None:
        return None
    least = -_FAR if low is None else low
    most = _FAR if high is None else high
    whole = _between(math.ceil(least), math.floor(most))
    # A decimal point moves away from zero, by less than one.
    above = _between(max(0, math.ceil(least)), math.floor(most) - 1)
    below = _between(math.ceil(least) + 1, min(-1, math.floor(most)))
    decimals = [f'({part}) "." [0-9]{{1,6}}' for part in (above, below) if part]
    return " | ".join(part for part in (whole, *decimals) if part) or None


def _bounds(schema: Mapping[str, Any]) -> tuple[float | None, float | None]:
    lows = [_bound(schema, "minimum", 0), _bound(schema, "exclusiveMinimum", 1)]
    highs = [_bound(schema, "maximum", 0), _bound(schema, "exclusiveMaximum", -1)]
    low = max((bound for bound in lows if bound is not None), default=None)
    high = min((bound for bound in highs if bound is not None), default=None)
    return low, high


def _bound(schema: Mapping[str, Any], word: str, step: int) -> float | None:
    """A bound, or the next integer inside an exclusive one."""
    value = schema.get(word)
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > _FAR:
        return None
    if not step:
        return value
    return math.floor(value) + 1 if step > 0 else math.ceil(value) - 1


def _between(low: int, high: int) -> str:
    """GBNF for all integers from `low` to `high`; empty when there is none."""
    if low > high:
        return ""
    if low < 0:
        negative = f'"-" ({_positive(max(1, -high), -low)})'
        return negative if high < 0 else f"{negative} | {_positive(0, high)}"
    return _positive(low, high)


def _positive(low: int, high: int) -> str:
    """The same, from 0 on: one alternative for each number of digits."""
    parts: list[str] = []
    while low <= high:
        digits = len(str(low))
        top = min(high, 10**digits - 1)
        parts.append(_digits(str(low), str(top)))
        low = 10**digits
    return " | ".join(parts)


def _digits(low: str, high: str) -> str:
    """Integers of one length: those that begin as `low`, those between, those that begin as `high`."""
    if len(low) == 1:
        return f"[{low}-{high}]"
    rest = len(low) - 1
    if low[0] == high[0]:
        return f'"{low[0]}" ({_digits(low[1:], high[1:])})'
    parts: list[str] = []
    first, last = int(low[0]), int(high[0])
    if set(low[1:]) != {"0"}:
        parts.append(f'"{low[0]}" ({_digits(low[1:], "9" * rest)})')
        first += 1
    if set(high[1:]) != {"9"}:
        parts.append(f'"{high[0]}" ({_digits("0" * rest, high[1:])})')
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}] [0-9]{{{rest}}}")
    return " | ".join(parts)
