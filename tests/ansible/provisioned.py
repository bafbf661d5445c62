"""One box with a whole miner on it, made by site.yml without a way out, for the tests of what comes after that."""

from pathlib import Path
from typing import Any

from tests.ansible.playing import Site
from tests.boxes.boxes import Boxes
from tests.boxes.offline import offline_dir
from tests.chain.registered import write_hotkey


def provision(boxes: Boxes, name: str, folder: Path, wheel: Path, **variables: Any) -> Site:  # noqa: ANN401 - Ansible's
    """Make the box and play site.yml. The miner has a hotkey and no chain: whoever asks is answered."""
    write_hotkey(folder)
    box = boxes.create(name)
    site = Site(
        folder,
        {"miner": [box], "inference": [box]},
        miner_hotkey_src=str(folder / "hotkey"),
        miner_offline_dir=str(offline_dir()),
        app_release_wheel=str(wheel),
        engine_profile_backend="llamacpp",
        selftest_wallet=str(folder / "asker"),
        miner_settings={
            "ENABLE_VALIDATOR_WHITELIST": False,
            "SUBTENSOR_NETWORK": "local",
            "SUBTENSOR_ADDRESS": "ws://127.0.0.1:9",
            "CHALLENGE_API_URL": "http://127.0.0.1:9",
            "MAX_CONCURRENT_REQUESTS": 4,
        },
        base_swap_gb=0,
        miner_ready_seconds=240,
        **variables,
    )
    site.play()
    return site
