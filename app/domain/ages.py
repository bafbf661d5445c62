"""How lengths of time and ages are written for people."""

from typing import Final

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 86400.0


def duration(seconds: float | None) -> str:
    """A length of time in the unit that fits; `never` for None."""
    match seconds:
        case None:
            return "never"
        case _ if seconds < 2 * _MINUTE:
            return f"{seconds:.0f} s"
        case _ if seconds < 2 * _HOUR:
            return f"{seconds / _MINUTE:.0f} min"
        case _ if seconds < 2 * _DAY:
            return f"{seconds / _HOUR:.1f} h"
        case _:
            return f"{seconds / _DAY:.0f} days"


def ago(seconds: float | None) -> str:
    """An age in words."""
    return "never" if seconds is None else f"{duration(seconds)} ago"
