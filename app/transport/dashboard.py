"""The dashboard's HTML: one page out of parts, each of which is made anew only when what it shows has changed."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final, cast

import jinja2
from markupsafe import Markup

from app.domain.ages import ago, duration
from app.domain.overview import Overview, State, ValidatorLine, more_alarms
from app.transport.plots import day_bar, latency_plot

PARTS: Final = (
    *("banner", "identity", "day", "hour", "load", "engine", "latency", "gpu", "lists", "security", "validators"),
    *("last", "warnings"),
)
_TITLES: Final[Mapping[State, str]] = {
    "ready": "Ready",
    "degraded": "Degraded",
    "draining": "Draining",
    "down": "Down",
}
# Each state has a shape of its own: colour alone says nothing to many.
_ICONS: Final[Mapping[State, str]] = {
    "ready": "M4 12.5l5 5L20 6.5",
    "degraded": "M12 4L2.5 20.5h19zM12 10v5M12 17.6v.1",
    "draining": "M12 3v13M6 11l6 6 6-6M5 21h14",
    "down": "M5 5l14 14M19 5L5 19",
}
_CLASSES: Final = {"ok": "good", "cut": "mixed", "late": "bad", "refused": "mixed", "failed": "bad", "gone": "dim"}
_SOURCES: Final = {"metagraph": "Metagraph", "challenge-api": "Challenge API"}
_MOST_VALIDATORS: Final = 40
_HOTKEY_ENDS: Final = 6
_GIB: Final = 1024**3
_NONE: Final = "\u2013"


class Dashboard:
    """Makes the page and its parts. To be made in a thread: compiling the templates takes a tenth of a second."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(_source),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
        )
        # The library infers the type of these from what it puts in itself.
        filters, words = cast("list[dict[str, object]]", [self._environment.filters, self._environment.globals])
        filters |= {"clock": _clock, "hm": _hm, "ago": ago, "duration": duration}
        filters |= {"secs": _secs, "short": _short, "gib": _gib, "unit": _unit}
        words |= {"titles": _TITLES, "icons": _ICONS, "classes": _CLASSES, "sources": _SOURCES}
        self._page = self._environment.get_template("page.html")
        self._parts = {name: self._environment.get_template(f"sections/{name}.html") for name in PARTS}
        self._made: dict[str, tuple[object, str]] = {}

    def page(self, overview: Overview, notice: str = "") -> bytes:
        """Make the whole page; `notice` is said at its top."""
        parts = {name: Markup(html) for name, html in self.parts(overview).items()}  # noqa: S704 - made just there
        return self._page.render(o=overview, parts=parts, notice=notice).encode()

    def parts(self, overview: Overview) -> dict[str, str]:
        """Make the parts, by the id of the element that each fills."""
        context: dict[str, Any] | None = None
        for name in PARTS:
            key = _KEYS[name](overview)
            known = self._made.get(name)
            if known is None or known[0] != key:
                context = context or _context(overview)
                self._made[name] = (key, self._parts[name].render(context))
        return {name: html for name, (_, html) in self._made.items()}

    def title(self, overview: Overview) -> str:
        """What the browser's tab says."""
        return f"{_TITLES[overview.banner.state]} · Loosh Miner"


def _source(name: str) -> str:
    return (files("app") / "web" / "dashboard" / name).read_text("utf-8")


def _context(overview: Overview) -> dict[str, Any]:
    validators = sorted(overview.validators, key=lambda line: (-(line.validator.last_seen or 0.0), -_stake(line)))
    return {
        "o": overview,
        "alarms": more_alarms(overview.health),
        "day": day_bar(overview.cells),
        "latency": latency_plot(overview.cells),
        "security": list(overview.security.items()),
        "validators": [(line.validator, line.tally) for line in validators[:_MOST_VALIDATORS]],
    }


def _stake(line: ValidatorLine) -> float:
    return line.validator.stake or 0.0


# What each part shows: as long as this is equal, so is the part.
_KEYS: Final[Mapping[str, Callable[[Overview], object]]] = {
    "banner": lambda o: (o.banner, o.health.alarms, bool(o.hour.outcomes), o.banner.reason or _minute(o)),
    "identity": lambda o: (o.health.chain, duration(o.health.uptime_seconds), ago(o.health.last_answer.age_seconds)),
    "day": lambda o: o.cells,
    "hour": lambda o: o.hour,
    "load": lambda o: (o.health.admission, o.tokens_per_second, o.health.sessions),
    "engine": lambda o: (o.health.backend, o.health.probe_seconds),
    "latency": lambda o: o.cells,
    "gpu": lambda o: o.gpus,
    "lists": lambda o: (o.health.validators, [(one, ago(one.age_seconds)) for one in o.health.allow_list]),
    "security": lambda o: o.security,
    "validators": lambda o: o.validators,
    "last": lambda o: o.last,
    "warnings": lambda o: (o.health.warnings, o.log_lost),
}


def _minute(overview: Overview) -> str:
    return ago(overview.health.last_answer.age_seconds)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def _hm(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def _secs(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def _short(hotkey: str) -> str:
    whole = len(hotkey) <= 2 * _HOTKEY_ENDS + 1
    return hotkey if whole else f"{hotkey[:_HOTKEY_ENDS]}…{hotkey[-_HOTKEY_ENDS:]}"


def _gib(size: int | None) -> str:
    return _NONE if size is None else f"{size / _GIB:.1f} GiB"


def _unit(value: float | None, unit: str) -> str:
    return _NONE if value is None else f"{value:.0f}{unit}"
