"""What the runtime's metadata can do: encode, decode, name storage, and fill records with zeros."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

SS58_FORMAT: Final = 42

type Value = Any
"""What SCALE or JSON hold: it has no type of its own."""


class Entry(Protocol):
    """One item of storage, as the metadata declares it."""

    value_type: str
    modifier: str
    default_bytes: bytes


class _Runtime(Protocol):
    def encode(self, type_string: str, value: Value, /) -> bytes: ...
    def decode(self, type_string: str, data: bytes, strict: bool, /) -> Value: ...  # noqa: FBT001 - the library's own
    def storage_entry(self, pallet: str, item: str, /) -> Entry: ...
    def storage_key(self, pallet: str, item: str, params: list[Any], /) -> bytes: ...
    def compose_call(self, pallet: str, call: str, params: dict[str, Any], /) -> bytes: ...
    def decode_extrinsic(self, raw: bytes, strict: bool, /) -> dict[str, Any]: ...  # noqa: FBT001 - as above
    def runtime_api_map(self) -> dict[str, dict[str, dict[str, Any]]]: ...
    def registry_json(self) -> str: ...


class _Keypair(Protocol):
    def verify(self, message: bytes, signature: bytes, /) -> bool: ...


class _KeypairClass(Protocol):
    def __call__(self, *, ss58_address: str) -> _Keypair: ...


class _Core(Protocol):
    Runtime: Any
    Keypair: _KeypairClass

    def ss58_encode(self, public_key: bytes, ss58_format: int, /) -> str: ...


_core: Final = cast("_Core", bittensor_core)


class Network(msgspec.Struct, frozen=True):
    """What the recorded node said of itself."""

    spec_version: int
    transaction_version: int


class _Metadata(msgspec.Struct, frozen=True):
    v14_hex: str
    v15_hex: str


class Recorded(msgspec.Struct, frozen=True):
    """The part of bittensor's own test fixture that is read: the runtime's metadata."""

    network: Network
    metadata: _Metadata


class Codec:
    """The runtime's types and storage, out of its metadata."""

    def __init__(self, file: Path) -> None:
        recorded = msgspec.json.decode(file.read_bytes(), type=Recorded)
        self.network: Final = recorded.network
        self.v14_hex: Final = recorded.metadata.v14_hex
        self.v15_option: Final = unhex(recorded.metadata.v15_hex)
        """As `Metadata_metadata_at_version` gives it: an option of opaque bytes."""
        bare = self.v15_option[self.v15_option.index(b"meta") :]
        self.runtime: Final = cast(
            "_Runtime", _core.Runtime(bare, self.network.spec_version, self.network.transaction_version, SS58_FORMAT)
        )
        self._types: Final[dict[int, dict[str, Any]]] = {
            entry["id"]: entry["type"] for entry in json.loads(self.runtime.registry_json())["types"]
        }
        self._apis: Final = self.runtime.runtime_api_map()

    def output(self, api: str, method: str) -> str:
        """The type that a runtime call answers with."""
        return str(self._apis[api][method]["output"])

    def encode(self, type_string: str, value: Value) -> bytes:
        return bytes(self.runtime.encode(type_string, value))

    def zero_of_option(self, type_string: str) -> dict[str, Any]:
        """A record with every field at zero, of the type inside an option."""
        outer = self._types[int(type_string.split("::")[1])]
        return self._zero(outer["params"][0]["type"])

    def _zero(self, number: int) -> Value:
        kind = self._types[number]
        match kind.get("path", [])[-1:]:
            case ["AccountId32"]:
                return ss58(bytes(32))
            case ["Option"]:
                return None
            case _:
                ((form, content),) = kind["def"].items()
                return self._zero_of(form, content)

    def _zero_of(self, form: str, content: Value) -> Value:
        zeros: dict[str, Callable[[], Value]] = {
            "composite": lambda: self._zero_composite(content.get("fields", [])),
            "sequence": list,
            "array": lambda: self._zero_array(content),
            "tuple": lambda: tuple(self._zero(one) for one in content),
            "primitive": lambda: {"bool": False, "str": ""}.get(content, 0),
            "variant": lambda: content["variants"][0]["name"],
            "compact": int,
        }
        return zeros[form]()

    def _zero_composite(self, fields: list[dict[str, Any]]) -> Value:
        if fields and all("name" in field for field in fields):
            return {field["name"]: self._zero(field["type"]) for field in fields}
        if len(fields) == 1:
            return self._zero(fields[0]["type"])
        return tuple(self._zero(field["type"]) for field in fields) or None

    def _zero_array(self, content: dict[str, Any]) -> Value:
        if self._types[content["type"]]["def"] == {"primitive": "u8"}:
            return "0x" + "00" * content["len"]
        return [self._zero(content["type"])] * content["len"]


def ss58(public_key: bytes) -> str:
    """The address of a public key."""
    return _core.ss58_encode(public_key, SS58_FORMAT)


def signed(address: str, message: bytes, signature: bytes) -> bool:
    """Whether the address's sr25519 key made the signature."""
    return _core.Keypair(ss58_address=address).verify(message, signature)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def to_hex(data: bytes) -> str:
    return "0x" + data.hex()
