"""Reading and checking signed extrinsics: signature, nonce, era, and the pallet's own rules."""

from typing import Any

import msgspec

from tests.stubs.chain.codec import Value, signed, unhex
from tests.stubs.chain.ledger import Ledger, hash_of
from tests.stubs.chain.subtensor import CUSTOM_ERRORS, Subtensor

SIGNED_V4 = 0x84
SR25519 = 1
LONG_PAYLOAD = 256


class RpcError(Exception):
    """A JSON-RPC error, as a node words it."""

    def __init__(self, code: int, message: str, data: Value = None) -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, **({} if data is None else {"data": data})}


class Extrinsic(msgspec.Struct, frozen=True):
    """A checked call of `serve_axon`."""

    raw: bytes
    hash: str
    who: str
    call: dict[str, Any]


def invalid(why: str) -> RpcError:
    """What the pool answers to an extrinsic that it does not take."""
    return RpcError(1010, "Invalid Transaction", why)


class Checker:
    """What the transaction pool does before it takes an extrinsic."""

    def __init__(self, ledger: Ledger, subtensor: Subtensor) -> None:
        self._ledger = ledger
        self._subtensor = subtensor

    def check(self, raw: bytes) -> Extrinsic:
        """Read it; errors are `RpcError`s."""
        decoded = self._ledger.codec.runtime.decode_extrinsic(raw, True)  # noqa: FBT003 - the library's own
        who, call = decoded["address"], decoded["call"]
        self._check_signature(raw, who)
        if (call["call_module"], call["call_function"]) != ("SubtensorModule", "serve_axon"):
            raise invalid(f"the stand-in only runs serve_axon, not {call['call_module']}.{call['call_function']}")
        arguments = {argument["name"]: argument["value"] for argument in call["call_args"]}
        refusal = self._subtensor.refusal(who, arguments)
        if refusal is not None:
            raise invalid(f"Custom error: {CUSTOM_ERRORS[refusal]}")
        return Extrinsic(raw, hash_of(raw), who, arguments)

    def _check_signature(self, raw: bytes, who: str) -> None:
        _, start = _compact(raw, 0)
        if raw[start] != SIGNED_V4 or raw[start + 1] != 0:
            raise invalid("Transaction has a bad signature")
        scheme, signature, at = raw[start + 34], raw[start + 35 : start + 99], start + 99
        era_end, birth = self._era(raw, at)
        nonce, after = _compact(raw, era_end)
        _, after = _compact(raw, after)
        extra, call = raw[at : after + 1], raw[after + 1 :]
        network = self._ledger.codec.network
        payload = call + extra
        payload += network.spec_version.to_bytes(4, "little") + network.transaction_version.to_bytes(4, "little")
        payload += unhex(self._ledger.genesis.hash) + unhex(birth) + b"\0"
        if len(payload) > LONG_PAYLOAD:
            payload = unhex(hash_of(payload))
        if scheme != SR25519 or not signed(who, payload, signature):
            raise invalid("Transaction has a bad signature")
        if nonce < self._ledger.get("System", "Account", [who])["nonce"]:
            raise invalid("Transaction is outdated")

    def _era(self, raw: bytes, at: int) -> tuple[int, str]:
        """Where the era ends, and the hash of the block that it begins with."""
        if raw[at] == 0:
            return at + 1, self._ledger.genesis.hash
        encoded = int.from_bytes(raw[at : at + 2], "little")
        period = 2 << (encoded % 16)
        phase = (encoded >> 4) * max(period >> 12, 1)
        current = self._ledger.head.number
        birth = (max(current, phase) - phase) // period * period + phase
        block = self._ledger.by_number.get(birth)
        if block is None:
            raise invalid("Transaction has an ancient birth block")
        return at + 2, block.hash


def _compact(data: bytes, at: int) -> tuple[int, int]:
    """Read SCALE's compact number: its value, and where it ends."""
    match data[at] & 3:
        case 0:
            return data[at] >> 2, at + 1
        case 1:
            return int.from_bytes(data[at : at + 2], "little") >> 2, at + 2
        case 2:
            return int.from_bytes(data[at : at + 4], "little") >> 2, at + 4
        case _:
            size = (data[at] >> 2) + 4
            return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size
