"""The settings of one run: from the environment and a `.env` file, all checked before anything starts.

`Settings` is declared in `app.settings_model`; contradictions between settings are in `app.settings_checks`.
"""

import difflib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from dotenv.parser import parse_stream
from dotenv.variables import parse_variables

from app.errors import SettingsError
from app.settings_checks import contradictions, doubts
from app.settings_fields import RateLimit, ValueUnreadableError, expand, parse
from app.settings_model import Settings, specs

__all__ = ["ENVIRONMENT", "LoadedSettings", "RateLimit", "Settings", "load"]

DEFAULT: Final = "default"
ENVIRONMENT: Final = "environment"
_MAX_ENV_FILE_BYTES: Final = 1024 * 1024


class LoadedSettings(msgspec.Struct, frozen=True):
    """Settings, where each came from (`default`, `environment` or `.env line N`, by name), and what to tell."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    credentials: Path | None = None
    """systemd's directory of credentials, where the miner runs as a unit that has some."""

    def explicit(self, name: str) -> bool:
        """Whether the operator gave this setting, by its name in the environment."""
        return self.origins[name] != DEFAULT


class _Given(msgspec.Struct, frozen=True):
    """A text the operator wrote, and where."""

    text: str
    origin: str


def load(environ: Mapping[str, str], env_file: Path | None) -> LoadedSettings:
    """Read, check and freeze all settings; the environment wins over the file.

    Raises `SettingsError` with every problem found, not only the first.
    """
    names = {spec.name for spec in specs()}
    problems: list[str] = []
    given = _from_file(env_file, environ, names, problems) if env_file else {}
    given |= {name: _Given(environ[name].strip(), ENVIRONMENT) for name in names if environ.get(name, "").strip()}

    home = Path(environ.get("HOME") or Path.home())
    values = _defaults(environ, home)
    for spec in specs():
        if spec.name not in given:
            continue
        try:
            values[spec.field] = parse(spec, given[spec.name].text, home)
        except ValueUnreadableError as error:
            problems.append(f"{spec.name} ({given[spec.name].origin}): {error}")

    settings = Settings(**values)
    if not problems:
        problems.extend(contradictions(settings, given.keys()))
    if problems:
        raise SettingsError(*problems)
    origins = {spec.name: given[spec.name].origin if spec.name in given else DEFAULT for spec in specs()}
    warnings = (*doubts(settings, given.keys()), *_near_misses(environ, names))
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    return LoadedSettings(settings, origins, warnings, Path(credentials) if credentials else None)


def _defaults(environ: Mapping[str, str], home: Path) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        spec.field: expand(spec.default, home) if isinstance(spec.default, Path) else spec.default for spec in specs()
    }
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # the XDG specification: a relative path is not valid and is ignored
        defaults["state_dir"] = state / "loosh-miner"
    return defaults


def _from_file(path: Path, environ: Mapping[str, str], names: set[str], problems: list[str]) -> dict[str, _Given]:
    """Read the file's settings; what is wrong in it goes to `problems`."""
    given: dict[str, _Given] = {}
    seen: dict[str, str | None] = {}
    for line, name, text in _lines(path, problems):
        if name is None:
            problems.append(f"{path} line {line}: is not NAME=value: mend the line or put # before it")
            continue
        if name not in names:
            problems.append(f"{name} ({path} line {line}): is not a setting{_suggestion(name, names)}")
            continue
        value = "".join(part.resolve({**seen, **environ}) for part in parse_variables(text or "")).strip()
        seen[name] = value
        given.pop(name, None)
        if value:
            given[name] = _Given(value, f"{path.name} line {line}")
    return given


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, str | None, str | None]]:
    """Line number, name and text of each assignment; the name is None where a line can't be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_ENV_FILE_BYTES + 1)
        if len(raw) > _MAX_ENV_FILE_BYTES:
            problems.append(f"{path}: is larger than 1 MiB: is it the right file?")
            return
        text = raw.decode("utf-8-sig")
    except OSError as error:
        problems.append(f"{path}: can't be read ({error.strerror}): check --env-file and the file's mode")
        return
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8 text: is it the right file?")
        return
    for binding in parse_stream(io.StringIO(text)):
        blank = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string[:blank].count("\n")
        if binding.error or binding.key:
            yield line, None if binding.error else binding.key, binding.value


def _suggestion(name: str, names: set[str]) -> str:
    near = difflib.get_close_matches(name.upper(), sorted(names), n=1, cutoff=0.7)
    return f": did you mean {near[0]}?" if near else ": remove the line (`loosh-miner config show` lists all settings)"


def _near_misses(environ: Mapping[str, str], names: set[str]) -> tuple[str, ...]:
    """Find slips of the pen; the environment is full of other programs' names."""
    warnings: list[str] = []
    for name in sorted(environ.keys() - names):
        near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.85)
        if near and near[0] not in environ:
            warnings.append(f"{name} in the environment is not a setting: did you mean {near[0]}?")
    return tuple(warnings)
