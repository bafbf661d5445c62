"""One choice with all that went into it: the machine, the catalogue, the lock, the wishes."""

from pathlib import Path

import msgspec

from app.appliance.compute.catalogue_file import read_catalogue
from app.appliance.compute.lock_file import LOCK_NAME, Lock, read_lock
from app.appliance.compute.rendering.plan import Plan, plan
from app.appliance.compute.wishes import hub_cache, where, wishes
from app.appliance.hardware.detect import detect
from app.appliance.hardware.recordings import read_recording
from app.domain.compute.catalogue import Catalogue
from app.domain.compute.choice import choose
from app.domain.compute.hardware import Hardware
from app.domain.compute.profile import Engine, EngineProfile, Preference, Reason, Reasons, Wishes
from app.errors import NothingFits
from app.settings import LoadedSettings


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says over the settings."""

    hardware: str | None = None
    """A recording: its name or file; None looks at this machine."""
    backend: Engine | None = None
    model: str | None = None
    prefer: Preference | None = None
    lock: Path | None = None
    """The lock of weights; None is the one in STATE_DIR."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """A choice and where it came from."""

    hardware: Hardware
    catalogue: Catalogue
    lock: Lock
    wishes: Wishes
    chosen: EngineProfile | Reasons

    def profile(self) -> EngineProfile:
        """Give the profile. Errors: `NothingFits` with every reason."""
        if isinstance(self.chosen, Reasons):
            raise NothingFits("\n".join(said(reason) for reason in self.chosen.reasons))
        return self.chosen

    def fit(self, model_id: str) -> EngineProfile | Reasons:
        """Choose again with one model, as if there were a token for gated weights."""
        engine = self.wishes.engine or "vllm"
        wish = msgspec.structs.replace(self.wishes, engine=engine, model=model_id, token=True)
        return choose(self.hardware, self.catalogue, wish)


def said(reason: Reason) -> str:
    """Write a reason and its remedy in one line."""
    return f"{reason.text}: {reason.remedy}"


def look(loaded: LoadedSettings, asked: Asked) -> Hardware:
    """Read the recording, or look at this machine. Errors: `ComputeFileError`."""
    if asked.hardware is not None:
        return read_recording(asked.hardware)
    return detect(hub_cache(loaded.settings))


def lock_file(loaded: LoadedSettings, asked: Asked) -> Path:
    """Say where the lock of weights is, or will be."""
    return asked.lock or loaded.settings.state_dir / LOCK_NAME


def select(loaded: LoadedSettings, asked: Asked) -> Selection:
    """Choose. Errors: `ComputeFileError`, `SettingsError`."""
    catalogue, lock = read_catalogue(), read_lock(lock_file(loaded, asked))
    wish = wishes(loaded, lock)
    if asked.backend is not None:
        wish = msgspec.structs.replace(wish, engine=asked.backend)
    if asked.model is not None:
        wish = msgspec.structs.replace(wish, model=asked.model)
    if asked.prefer is not None:
        wish = msgspec.structs.replace(wish, prefer=asked.prefer)
    hardware = look(loaded, asked)
    return Selection(
        hardware=hardware, catalogue=catalogue, lock=lock, wishes=wish, chosen=choose(hardware, catalogue, wish)
    )


def start_of(loaded: LoadedSettings, selection: Selection, listen: str | None = None) -> Plan:
    """Work out how the chosen engine is started. Errors: `NothingFits`, `SettingsError`."""
    profile = selection.profile()
    return plan(profile, where(loaded, profile, selection.lock, listen))
