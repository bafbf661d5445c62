"""The Challenge API's list of active validators, asked for with the hotkey's signature (protocol, section 5)."""

import ssl
from typing import Any, Final, cast

import aiohttp
import msgspec
import structlog

from app.clock import Clock
from app.domain.source import plain_address
from app.domain.source_list import ListedValidator
from app.errors import ChainError, ContentRefused
from app.protocol import json_shape
from app.protocol.hotkeys import Hotkey, is_ss58
from app.secret import Secret

_PATH: Final = "/validators/active-hotkeys"
_CONNECT_SECONDS: Final = 10.0
_TOTAL_SECONDS: Final = 30.0
_MOST_BYTES: Final = 1024 * 1024
_MOST_ENTRIES: Final = 4096
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_SERVER_FAULTS: Final = range(500, 600)
_BY_ITSELF: Final = "nothing to do here: the miner asks again by itself and keeps the last list for 24 h"
_NETWORK: Final = f"check this machine's network and CHALLENGE_API_URL; {_BY_ITSELF}"
_REFUSALS: Final = {
    401: ("does not take the signature", "check this machine's clock (NTP), and remove an old CHALLENGE_API_KEY"),
    403: ("does not know this hotkey", "register it on the subnet first, or name validators in VALIDATOR_HOTKEYS"),
    404: ("has no list at this address", "correct CHALLENGE_API_URL"),
    429: ("is asked too often", "run one miner per hotkey; the miner asks again by itself"),
}
_CODES: Final = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "rate"}


class ChallengeApi:
    """A source of validators. Redirects are not followed: they would carry the signature elsewhere."""

    def __init__(self, url: str, hotkey: Hotkey, key: Secret[str] | None, clock: Clock) -> None:
        self.source: Final = "challenge-api"
        self.origin: Final = url.rstrip("/")
        self._hotkey = hotkey
        self._key = key
        self._clock = clock
        self._decoder = msgspec.json.Decoder(list[Any])
        self._skipped = 0
        self._log = structlog.get_logger("app.allow_list")

    async def validators(self) -> tuple[ListedValidator, ...]:
        """The active validators and their addresses. Errors: `ChainError`.

        A hotkey that is listed several times is active if one entry says so, at the addresses of all that do.
        """
        entries = self._decode(await self._fetch())
        found: dict[str, ListedValidator] = {}
        skipped = 0
        for entry in entries:
            match _read(entry):
                case ListedValidator() as listed:
                    before = found.get(listed.hotkey)
                    addresses = (*(before.addresses if before else ()), *listed.addresses)
                    found[listed.hotkey] = ListedValidator(
                        hotkey=listed.hotkey, addresses=tuple(dict.fromkeys(addresses))
                    )
                case "bad":
                    skipped += 1
                case _:
                    continue
        if skipped != self._skipped:
            self._log.warning("entries of the Challenge API that can't be read", skipped=skipped, read=len(found))
            self._skipped = skipped
        return tuple(found.values())

    async def _fetch(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS, connect=_CONNECT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
                session.get(self.origin + _PATH, headers=self._headers(), allow_redirects=False) as response,
            ):
                if response.status != _OK:
                    raise self._refused(response.status)
                return await self._read_body(response.content)
        except TimeoutError:
            cause = f"{self._name} did not answer within {_TOTAL_SECONDS:g} s"
            raise ChainError(cause, remedy=_NETWORK, code="timeout") from None
        except (aiohttp.ClientSSLError, ssl.SSLError):
            remedy = "check this machine's clock and certificates (ca-certificates), and CHALLENGE_API_URL"
            raise ChainError(f"{self._name} shows no certificate to be trusted", remedy=remedy, code="tls") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = f"{self._name} can't be reached ({type(error).__name__})"
            raise ChainError(cause, remedy=_NETWORK, code="unreachable") from None

    @property
    def _name(self) -> str:
        return f"the Challenge API at {self.origin}"

    def _headers(self) -> dict[str, str]:
        nonce = str(int(self._clock.wall()))
        signature = self._hotkey.sign(f"{nonce}:{self._hotkey.ss58}".encode())
        headers = {
            "X-Hotkey": self._hotkey.ss58,
            "X-Nonce": nonce,
            "X-Signature": f"0x{signature.hex()}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        if self._key is not None:
            headers["X-API-Key"] = self._key.reveal()
        return headers

    async def _read_body(self, content: aiohttp.StreamReader) -> bytes:
        body = bytearray()
        async for chunk in content.iter_chunked(64 * 1024):
            body += chunk
            if len(body) > _MOST_BYTES:
                cause = f"{self._name} sends more than {_MOST_BYTES} bytes"
                raise ChainError(cause, remedy="check CHALLENGE_API_URL", code="bad_answer")
        return bytes(body)

    def _decode(self, body: bytes) -> list[Any]:
        try:
            entries = json_shape.decode(self._decoder, body)
        except ContentRefused:
            cause = f"{self._name} sends no list of validators"
            raise ChainError(cause, remedy="check CHALLENGE_API_URL", code="bad_answer") from None
        if len(entries) > _MOST_ENTRIES:
            cause = f"{self._name} lists more than {_MOST_ENTRIES} validators"
            raise ChainError(cause, remedy="check CHALLENGE_API_URL", code="bad_answer")
        return entries

    def _refused(self, status: int) -> ChainError:
        if status in _REFUSALS:
            cause, remedy = _REFUSALS[status]
            return ChainError(f"{self._name} {cause} (status {status})", remedy=remedy, code=_CODES[status])
        if status in _REDIRECTS:
            remedy = "put the address that it really has into CHALLENGE_API_URL"
            return ChainError(f"{self._name} redirects elsewhere (status {status})", remedy=remedy, code="redirect")
        code = "server_fault" if status in _SERVER_FAULTS else "status"
        return ChainError(f"{self._name} answers with status {status}", remedy=_BY_ITSELF, code=code)


def _read(entry: object) -> ListedValidator | str:
    """One entry: the validator, `inactive`, or `bad` for what can't be one."""
    if isinstance(entry, str):
        return ListedValidator(hotkey=entry) if is_ss58(entry) else "bad"
    if not isinstance(entry, dict):
        return "bad"
    fields = cast("dict[str, object]", entry)
    hotkey, status, address = fields.get("hotkey_ss58"), fields.get("status", "active"), fields.get("ip")
    if not isinstance(hotkey, str) or not is_ss58(hotkey):
        return "bad"
    if not isinstance(status, str) or status.lower() != "active":
        return "inactive"
    plain = plain_address(address) if isinstance(address, str) else None
    return ListedValidator(hotkey=hotkey, addresses=() if plain is None else (plain,))
