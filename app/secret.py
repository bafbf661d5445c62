"""A value that never shows itself (threats.md row 18)."""

import hmac
from typing import Any, Final, NoReturn, cast, final

MASK: Final = "***"


@final
class Secret[T: (str, bytes)]:
    """Wraps text or bytes; every way of printing it gives `***`, and it can't be pickled, copied or encoded."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """Hand out the value itself; call it only where it is used, and keep the result nowhere."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        theirs = cast("Secret[Any]", other).reveal()
        return hmac.compare_digest(_octets(self._value), _octets(theirs))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret can't be pickled or copied")


def _octets(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
