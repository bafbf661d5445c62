"""Every setting of the miner, declared once: name, type, default, bounds, group and one line of explanation.

The name in the environment is the field's name in capitals. Where a setting is kept for operators who have it in
their `.env` but nothing reads it yet, its text says so. The declarations stand in three files, by what they are about:
`settings_calling`, `settings_engine` and `settings_running`.
"""

import functools
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from app.settings_fields import Spec
from app.settings_running import RunningSettings


class Settings(RunningSettings, frozen=True, kw_only=True):
    """What the operator chose; never changes while the miner runs."""


@functools.cache
def specs() -> tuple[Spec, ...]:
    """All settings in the order of their declaration."""
    hints = get_type_hints(Settings, include_extras=True)
    return tuple(_spec(field.name, hints[field.name], field.default) for field in msgspec.structs.fields(Settings))


def _spec(field: str, hint: Any, default: object) -> Spec:  # noqa: ANN401 - a type annotation has no type of its own
    kind, about = get_args(hint)
    if get_origin(kind) in {UnionType, Union}:
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    return Spec(name=field.upper(), field=field, kind=kind, about=about, default=default)
