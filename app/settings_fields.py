"""How one setting is declared, and how its text becomes a value.

A declaration is `Annotated[type, About(...)] = default`, in `app.settings_calling`, `settings_engine` or
`settings_running`; the README's table, env.example, `config show` and every check read it from there.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, cast, get_args, get_origin

import msgspec

from app.protocol.hotkeys import is_ss58
from app.secret import Secret

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Hotkey = str
"""An ss58 address."""
_SHOWN_LETTERS: Final = 60

Group = Literal[
    "Identity and chain",
    "Listeners",
    "Who may call",
    "Answering",
    "Model and engine",
    "Embedded llama.cpp",
    "vLLM's own options",
    "Fiber",
    "Rate limits",
    "Alerts",
    "Logs and state",
]


class RateLimit(msgspec.Struct, frozen=True):
    """Requests a minute and source address: for addresses on the Challenge API's list, and for all others."""

    known: int
    unknown: int

    def __str__(self) -> str:
        return f"{self.known}/{self.unknown}"


class About(msgspec.Struct, frozen=True):
    """What a declaration says besides type and default."""

    group: Group
    text: str
    ge: float | None = None
    le: float | None = None
    why: str = ""
    """Why a value out of bounds can't work; ends the error line."""
    unset: str = "-"
    """What the table shows as the default of a setting that has none."""


class Spec(msgspec.Struct, frozen=True):
    """One declared setting, as the loader and the documentation see it."""

    name: str
    """As in the environment."""
    field: str
    kind: Any
    """The type, without `| None`."""
    about: About
    default: Any

    @property
    def type_text(self) -> str:
        """The kind of value, in words for an operator."""
        if get_origin(self.kind) is Literal:
            return " \\| ".join(get_args(self.kind))
        return _TYPE_TEXTS[self.kind]

    @property
    def secret(self) -> bool:
        """Whether the value must never be shown."""
        return get_origin(self.kind) is Secret


class ValueUnreadableError(ValueError):
    """The text is not a value of the setting; says what would be."""


def parse(spec: Spec, text: str, home: Path) -> object:
    """Read the value of `spec` that `text` says. Errors: `ValueUnreadableError`; it never shows a secret's value."""
    if "\0" in text:
        raise ValueUnreadableError("holds a NUL character: remove it")
    try:
        if spec.kind is Path:
            value: object = expand(Path(text), home)
        elif get_origin(spec.kind) is Literal:
            value = _choice(text, get_args(spec.kind))
        else:
            value = _PARSERS[spec.kind](text)
    except ValueError as error:
        raise ValueUnreadableError(_complaint(spec, text, str(error))) from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_bounds(spec, text, value)
    return value


def expand(path: Path, home: Path) -> Path:
    """`~` and `~/...` below `home`; other paths as they are."""
    return home.joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path


def show(value: object) -> str:
    """Write a value as `.env` would write it; secrets and a URL's secrets masked."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(map(show, cast("tuple[object, ...]", value)))
        case str() if "://" in value:
            return re.sub(r"\?.*", "?***", re.sub(r"//[^/?#]*@", "//***@", value))
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def _complaint(spec: Spec, text: str, problem: str) -> str:
    return problem if spec.secret else f"{_short(text)} {problem}"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 3] + "...")


def _check_bounds(spec: Spec, text: str, value: float) -> None:
    low, high = spec.about.ge, spec.about.le
    if (low is None or value >= low) and (high is None or value <= high):
        return
    if low is not None and high is not None:
        need = f"from {show(float(low))} to {show(float(high))}"
    elif low is not None:
        need = f"{show(float(low))} or more"
    else:
        need = f"{show(float(high or 0))} or less"
    why = f" ({spec.about.why})" if spec.about.why else ""
    raise ValueUnreadableError(f"{_short(text)} is out of range: use {need}{why}")


def _choice(text: str, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    raise ValueError(f"is not one of {', '.join(choices)}")


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError("is not a whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not text.isascii() or "_" in text:
        raise ValueError("is not a number")
    return value


def _switch(text: str) -> bool:
    if text.lower() in {"true", "1", "yes", "on"}:
        return True
    if text.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("is neither true nor false")


def _rate(text: str) -> RateLimit:
    match = re.fullmatch(r"([0-9]{1,6})\s*/\s*([0-9]{1,6})", text)
    if not match:
        raise ValueError("is not two numbers: write known/unknown requests a minute, as 20/6")
    limit = RateLimit(int(match[1]), int(match[2]))
    if not limit.known or not limit.unknown:
        raise ValueError("would refuse everyone: use 1 or more on both sides")
    return limit


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(_network(part) for part in _parts(text))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"has {_short(text)}, which is no address or CIDR: write as 10.0.0.1 or 10.0.0.0/24") from None


def _hotkeys(text: str) -> tuple[Hotkey, ...]:
    hotkeys = tuple(_parts(text))
    for hotkey in hotkeys:
        if not is_ss58(hotkey):
            raise ValueError(f"has {_short(hotkey)}, which is no ss58 address: copy it whole, 48 characters")
    return hotkeys


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _secret(text: str) -> Secret[str]:
    return Secret(text)


_PARSERS: Final[Mapping[Any, Callable[[str], object]]] = MappingProxyType(
    {
        str: str,
        int: _whole,
        float: _number,
        bool: _switch,
        RateLimit: _rate,
        Secret[str]: _secret,
        tuple[Network, ...]: _networks,
        tuple[Hotkey, ...]: _hotkeys,
    }
)
_TYPE_TEXTS: Final[Mapping[Any, str]] = MappingProxyType(
    {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true \\| false",
        Path: "path",
        RateLimit: "known/unknown a minute",
        Secret[str]: "secret",
        tuple[Network, ...]: "list of addresses or CIDRs",
        tuple[Hotkey, ...]: "list of ss58 addresses",
    }
)
