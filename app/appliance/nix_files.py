"""What the NixOS modules take from here as data: engine profiles by tier, and the names of all settings.

`python -m app.appliance.nix_files` writes both anew; a test holds them true.
"""

from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, get_args

import msgspec

from app.appliance.compute.catalogue_file import read_catalogue
from app.appliance.compute.rendering.nix import nix_profile
from app.appliance.compute.rendering.plan import Where, plan
from app.appliance.hardware.recordings import read_recording
from app.domain.compute.choice import choose
from app.domain.compute.profile import Engine, Reasons, Wishes
from app.settings_model import specs

_ROOT: Final = Path(__file__).resolve().parents[2]
PROFILES: Final = Path("nix/profiles.json")
SETTINGS: Final = Path("nix/settings.json")
CARDS: Final = MappingProxyType(
    {
        "rtx_5080_16gb": "rtx5080",
        "a10_24gb": "a10",
        "a100_40gb": "a100-40",
        "a100_80gb": "a100-80",
        "h100_80gb": "h100",
    }
)
"""Each tier, and the recorded machine that has one card of it."""
_NO_GPU: Final = "cpu"


def profiles() -> str:
    """Build nix/profiles.json: for each tier and engine the profile, or the reasons why there is none."""
    machines = {**CARDS, _NO_GPU: "none"}
    return _json(
        {tier: {engine: _profile(machine, engine) for engine in _engines(tier)} for tier, machine in machines.items()}
    )


def settings() -> str:
    """Build nix/settings.json: all settings, and whether each is a secret and so never belongs into the store."""
    return _json({spec.name: {"secret": spec.secret} for spec in specs()})


def write(root: Path) -> None:
    """Bring both files up to date."""
    (root / PROFILES).write_text(profiles(), "utf-8")
    (root / SETTINGS).write_text(settings(), "utf-8")


def _engines(tier: str) -> tuple[Engine, ...]:
    """A machine without a GPU has no vLLM, and one with a GPU no need of llama.cpp."""
    kept: tuple[Engine, ...] = get_args(Engine.__value__)
    return tuple(engine for engine in kept if engine != ("vllm" if tier == _NO_GPU else "llamacpp"))


def _profile(machine: str, engine: Engine) -> dict[str, Any]:
    chosen = choose(read_recording(machine), read_catalogue(), Wishes(engine=engine))
    if isinstance(chosen, Reasons):
        return {"reasons": [f"{reason.text}: {reason.remedy}" for reason in chosen.reasons]}
    return nix_profile(plan(chosen, Where()))


def _json(tree: object) -> str:
    return msgspec.json.format(msgspec.json.encode(tree)).decode() + "\n"


if __name__ == "__main__":
    write(_ROOT)
