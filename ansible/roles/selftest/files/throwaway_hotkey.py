"""Print the address of the throw-away hotkey in a wallet's directory, which is made the first time.

throwaway_hotkey.py WALLET: writes WALLET/hotkeys/asker (0600), whole or not at all. Run by the environment that Ansible
runs in, which has the miner's own code.
"""

import json
import os
import sys
from pathlib import Path

from app.protocol.hotkeys import SEED_BYTES, Hotkey


def main(wallet: Path) -> None:
    file = wallet / "hotkeys" / "asker"
    if not file.exists():
        make(file)
    print(json.loads(file.read_text(encoding="utf-8"))["ss58Address"])


def make(file: Path) -> None:
    seed = os.urandom(SEED_BYTES)
    content = {"secretSeed": "0x" + seed.hex(), "ss58Address": Hotkey.from_seed(seed).ss58}
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_name(f"asker.{os.getpid()}")
    new.touch(0o600)
    new.write_text(json.dumps(content), encoding="utf-8")
    new.rename(file)


main(Path(sys.argv[1]))
