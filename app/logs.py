"""Structured logs: one line an event, JSON or for a terminal, never a request's content (threats.md row 18).

`configure` is called once, at the process's edge. Modules then use `structlog.get_logger()`; what libraries say
through the standard library's `logging` leaves by the same door.
"""

import logging
import os
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final, Literal, override

import msgspec
import structlog

from app.errors import SettingsError

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Format = Literal["console", "json"]
Event = MutableMapping[str, Any]

_STDERR: Final = 2
_LONGEST_TEXT: Final = 500
_RESET: Final = "\x1b[0m"
_COLOURS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "debug": "\x1b[2m",
        "info": "\x1b[32m",
        "warning": "\x1b[33m",
        "error": "\x1b[31m",
        "critical": "\x1b[1;31m",
    }
)
_JSON: Final = msgspec.json.Encoder(enc_hook=str)
_LEVELS: Final[Mapping[Level, int]] = MappingProxyType(
    {
        "DEBUG": logging.DEBUG,
        "INFO": logging.INFO,
        "WARNING": logging.WARNING,
        "ERROR": logging.ERROR,
        "CRITICAL": logging.CRITICAL,
    }
)


def resolve_form(form: Literal["auto", "console", "json"], environ: Mapping[str, str]) -> Format:
    """Choose JSON where systemd's journal reads our stderr, lines for people elsewhere."""
    if form != "auto":
        return form
    try:
        stderr = os.fstat(_STDERR)
    except OSError:  # no stderr at all
        return "json"
    return "json" if environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}" else "console"


def configure(*, level: Level = "INFO", form: Format = "console", file: Path | None = None) -> None:
    """Send all logs to stderr, or to `file` (mode 0600). Errors: `SettingsError` when the file can't be written."""
    stream = os.fdopen(_STDERR, "wb", buffering=0, closefd=False) if file is None else _open(file)
    terminal = file is None and os.isatty(_STDERR)
    lines = _Lines(stream)
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            _console_line(colour=terminal) if form == "console" else _json_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog()]
    # Libraries tell their users' developers a lot; an operator wants to hear of trouble.
    root.setLevel(max(_LEVELS[level], logging.WARNING) if level != "DEBUG" else logging.DEBUG)
    logging.captureWarnings(capture=True)


def granian_logging() -> dict[str, Any]:
    """Build granian's `log_dictconfig`, so that it speaks through `configure`'s door and not on stdout."""
    door: dict[str, Any] = {"handlers": [], "propagate": True}
    return {"loggers": {"_granian": dict(door), "granian.access": dict(door)}, "handlers": {}, "formatters": {}}


class _ToStructlog(logging.Handler):
    """Passes the standard library's records on."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = f"{record.msg} (its arguments do not fit)"
        log = structlog.get_logger()
        log.log(record.levelno, text, logger=record.name, exc_info=record.exc_info or None)


class _Lines:
    """Writes finished lines, each in one go. A full disk or a closed pipe costs log lines, never answers."""

    def __init__(self, stream: BinaryIO) -> None:
        self._write = stream.write

    def msg(self, line: bytes) -> None:
        try:  # noqa: SIM105 - suppress costs more than the rest
            self._write(line + b"\n")
        except (OSError, ValueError):
            pass

    log = debug = info = warn = warning = err = error = exception = critical = fatal = msg


def _open(file: Path) -> BinaryIO:
    """Open for appending; nobody else may read it."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise SettingsError(
            f"LOG_FILE: {file} can't be written ({error.strerror}): make its directory, or choose another file"
        ) from None
    return os.fdopen(descriptor, "ab", buffering=0)


def _ordered(method: str, event: Event) -> dict[str, Any]:
    """Put time, level and event first, without what could be content or could flood the log."""
    level = "error" if method == "exception" else method
    fields: dict[str, Any] = {"time": _now(), "level": level, "event": str(event.pop("event", ""))}
    for key, value in event.items():
        if isinstance(value, str):
            long = len(value) > _LONGEST_TEXT and key != "exception"
            fields[key] = f"{value[:_LONGEST_TEXT]}... ({len(value)} characters)" if long else value
        elif isinstance(value, bytes | bytearray | memoryview):
            fields[key] = f"<{len(value)} bytes>"  # pyright: ignore[reportUnknownArgumentType] - any memoryview has one
        else:
            fields[key] = value
    return fields


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_line(_logger: object, method: str, event: Event) -> bytes:
    fields = _ordered(method, event)
    try:
        return _JSON.encode(fields)
    except (TypeError, ValueError, RecursionError):  # a key that is no text, a lone surrogate, a cycle
        return _JSON.encode({_plain(key): _plain(value) for key, value in fields.items()})


def _console_line(*, colour: bool) -> Callable[[object, str, Event], bytes]:
    def render(_logger: object, method: str, event: Event) -> bytes:
        fields = _ordered(method, event)
        time, level, text = fields.pop("time"), fields.pop("level"), _plain(fields.pop("event"))
        trace = str(fields.pop("exception", ""))
        label = f"{_COLOURS[level]}{level:<8}{_RESET}" if colour and level in _COLOURS else f"{level:<8}"
        pairs = "".join(f" {key}={_plain(value)}" for key, value in fields.items())
        lines = [f"{time} {label} {text}{pairs}", *map(_plain, trace.splitlines())]
        return "\n".join(lines).encode("utf-8", "backslashreplace")

    return render


def _plain(value: object) -> str:
    """Write a value on one line, so that no text of a stranger's can move the cursor or forge a line."""
    text = value if isinstance(value, str) else str(value)
    return text if text.isprintable() else ascii(text)[1:-1]
