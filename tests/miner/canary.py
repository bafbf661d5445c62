"""Canaries: marks in prompts, keys and secrets that must never be seen in what the miner writes for others.

Every challenge of these tests holds `PROMPT`, every session key begins with `KEY`, every miner is given `API_KEY`.
All that miners log, show and answer in errors is kept as evidence and searched at the end of the run (threat 18).
"""

import base64
import secrets
from typing import Final

PROMPT: Final = "canary-prompt-5e1f"
KEY: Final = "CanaryKey000"
API_KEY: Final = "canary-api-key-77aa"


def canary_key() -> bytes:
    """A Fernet key that can be told from any other text."""
    text = KEY.encode() + base64.urlsafe_b64encode(secrets.token_bytes(32))[len(KEY) :]
    base64.urlsafe_b64decode(text)
    return text


def marks() -> dict[str, bytes]:
    """What to look for: each canary in the forms in which it could leak."""
    found: dict[str, bytes] = {"private key": b"PRIVATE KEY"}
    for name, text in (("prompt", PROMPT), ("session key", KEY), ("api key", API_KEY)):
        found[name] = text.encode()
        found[f"{name} in hex"] = text.encode().hex().encode()
    found["raw session key in hex"] = base64.urlsafe_b64decode(KEY).hex().encode()
    found["raw session key as Python bytes"] = repr(base64.urlsafe_b64decode(KEY))[2:-1].encode()
    return found


class Evidence:
    """All that was written for others in this run."""

    def __init__(self) -> None:
        self.kept: dict[bytes, str] = {}
        self.secrets: set[bytes] = set()

    def add(self, where: str, data: bytes) -> None:
        """Keep `data`; the same twice counts once."""
        self.kept.setdefault(data, where)

    def hits(self) -> list[str]:
        """Each mark found, and where."""
        wanted = marks() | {f"secret {at}": secret for at, secret in enumerate(sorted(self.secrets))}
        return [
            f"{name} in {where}: ...{data[max(0, data.find(mark) - 80) : data.find(mark) + 40]!r}..."
            for data, where in self.kept.items()
            for name, mark in wanted.items()
            if mark in data
        ]
