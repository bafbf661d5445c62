"""Reads `min_compute.yml` strictly: every complaint names the file, the place in it, and the value found there."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final, cast, override

import msgspec
import yaml

from app.domain.compute.catalogue import Catalogue
from app.domain.compute.catalogue_rules import faults
from app.errors import ComputeFileError

SHIPPED: Final = Path(__file__).with_name("min_compute.yml")
"""In a checkout a link to the file at the root; in a wheel the file itself."""
_MAX_BYTES: Final = 1024 * 1024
_SHOWN: Final = 60
_PLACE: Final = re.compile(r" - at (?:`key` in )?`\$([^`]*)`$")
_STEPS: Final = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")

type _Path = tuple[str | int, ...]


def read_catalogue(file: Path = SHIPPED) -> Catalogue:
    """Read and check the whole file. Errors: `ComputeFileError`, with every fault that is known."""
    tree = _tree(file)
    try:
        catalogue = msgspec.convert(tree, Catalogue)
    except msgspec.ValidationError as error:
        raise ComputeFileError(_complaint(file, tree, error)) from None
    wrong = faults(catalogue)
    if wrong:
        raise ComputeFileError(*(f"{file}: {fault.path}: {_short(fault.value)} {fault.text}" for fault in wrong))
    return catalogue


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which would let the second of two equal keys win without a word."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = cast("object", self.construct_object(key_node, deep=True))  # pyright: ignore[reportUnknownMemberType]
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands there twice", key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _tree(file: Path) -> object:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ComputeFileError(f"{file}: can't be read ({error.strerror}): restore it") from None
    if len(raw) > _MAX_BYTES:
        raise ComputeFileError(f"{file}: is larger than 1 MiB: is it the right file?")
    try:
        return cast("object", yaml.load(raw.decode(), _StrictLoader))  # noqa: S506 - a safe loader
    except UnicodeDecodeError:
        raise ComputeFileError(f"{file}: is not UTF-8 text: restore it") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise ComputeFileError(f"{file}{where}: is not YAML: {error.problem or error.context}") from None
    except (
        yaml.YAMLError,
        RecursionError,
        ValueError,
    ) as error:  # a bad character, deep nesting, a date like 2026-99-99
        raise ComputeFileError(f"{file}: is not YAML: {str(error).splitlines()[0]}") from None


def _complaint(file: Path, tree: object, error: msgspec.ValidationError) -> str:
    """Turn msgspec's message into one that names place and value, and what to do where it is plain."""
    message = str(error)
    text = _PLACE.sub("", message)
    path = _place(tree, message)
    value = _at(tree, path)
    shown = "" if isinstance(value, dict | list) else f" {_short(value)}:"
    hint = ""
    if text.startswith("Expected `str`, got") and isinstance(value, int | float):
        hint = f': without quotes YAML takes it for something else; write "{value}"'
    return f"{file}: {_written(path)}:{shown} {text[0].lower()}{text[1:]}{hint}"


def _place(tree: object, message: str) -> _Path:
    """Find the place that a message is about; msgspec writes `[...]` for each key of a map, whichever it is."""
    found = _PLACE.search(message)
    path: _Path = ()
    for index, name in _STEPS.findall(found[1] if found else ""):
        path = (*path, _key(tree, path, message)) if index == "..." else (*path, int(index) if index else name)
    return path


def _key(tree: object, path: _Path, message: str) -> str:
    """Find the key whose value gives the message when the others are not there."""
    members = cast("dict[str, object]", _at(tree, path))
    for key, value in members.items():
        try:
            msgspec.convert(_with(tree, path, {key: value}), Catalogue)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return key
    return "..."


def _at(tree: object, path: _Path) -> object:
    for step in path:
        tree = cast("dict[str | int, object]", tree)[step]
    return tree


def _with(tree: object, path: _Path, value: object) -> object:
    """Copy the tree with another value at one place."""
    if not path:
        return value
    if isinstance(tree, list):
        copy: Any = list(cast("list[object]", tree))
    else:
        copy = dict(cast("dict[str, object]", tree))
    copy[path[0]] = _with(copy[path[0]], path[1:], value)
    return copy


def _written(path: _Path) -> str:
    return (
        "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".") or "the whole file"
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
