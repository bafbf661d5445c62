"""Names and answers of the wire that both sides use (protocol, sections 1 to 3)."""

from typing import Final, Literal

import msgspec

AVAILABILITY_HOTKEY_HEADER: Final = "validator-hotkey"
VALIDATOR_HOTKEY_HEADER: Final = "x-fiber-validator-hotkey-ss58"
SYMMETRIC_KEY_UUID_HEADER: Final = "x-fiber-symmetric-key-uuid"
MINER_HOTKEY_HEADER: Final = "x-fiber-miner-hotkey-ss58"
OCTET_STREAM: Final = "application/octet-stream"

AVAILABILITY_PATH: Final = "/availability"
PUBLIC_KEY_PATH: Final = "/fiber/public-key"
KEY_EXCHANGE_PATH: Final = "/fiber/key-exchange"
CHALLENGE_PATH: Final = "/fiber/challenge"


class AvailabilityAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """200 on `/availability`; `reason` says what a miner that is not available waits for."""

    available: bool
    reason: str | None = None


class PublicKeyAnswer(msgspec.Struct, frozen=True):
    """200 on `/fiber/public-key`: SubjectPublicKeyInfo in PEM."""

    public_key: str


class KeyExchangeAnswer(msgspec.Struct, frozen=True):
    """200 on `/fiber/key-exchange`; validators rely on `success` being true."""

    message: str = "session ready"
    success: Literal[True] = True


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Every answer other than 200, but for 401 on the challenge."""

    detail: str


class HandshakeNeeded(msgspec.Struct, frozen=True):
    """401 on `/fiber/challenge`: the validator shakes hands with this very key and retries once."""

    detail: str
    public_key: str
    requires_handshake: Literal[True] = True
