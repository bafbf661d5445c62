"""The validator's side over HTTP, as real validators do it (protocol, sections 1 to 3).

For the `challenge` command, tests and the benchmark. It holds one session with the miner; challenges may run side by
side on it, and the one that finds it expired shakes hands again for all.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from app.errors import MinerError, SessionRefused
from app.protocol.hotkeys import Hotkey
from app.protocol.validator import ClientSession, ValidatorSide
from app.protocol.wire import (
    AVAILABILITY_HOTKEY_HEADER,
    AVAILABILITY_PATH,
    CHALLENGE_PATH,
    KEY_EXCHANGE_PATH,
    MINER_HOTKEY_HEADER,
    PUBLIC_KEY_PATH,
    AvailabilityAnswer,
)
from app.validator.errors import AnswerUnreadable, MinerNotReady, MinerRefused, MinerSilent, MinerUnreachable

AVAILABILITY_SECONDS: Final = 3.0
HANDSHAKE_SECONDS: Final = 15.0
_HANDSHAKE_NEEDED: Final = frozenset({400, 401})
_OK: Final = 200
_RATE_LIMITED: Final = 429
_ASK_AGAIN_SECONDS: Final = (0.5, 1.0, 2.0)
_DETAIL_LETTERS: Final = 500


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as the miner counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class ReadAnswer(msgspec.Struct, frozen=True):
    """An answer as a validator reads it: what it relies on is required, the rest may be missing."""

    response_text: str
    response_time_ms: int
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    correlation_id: str | None = None
    metadata: dict[str, Any] | None = None


class ReceivedAnswer(msgspec.Struct, frozen=True):
    """An answer, and how it came."""

    answer: ReadAnswer
    seconds: float
    """From the first byte sent to the last received, handshakes included."""
    handshakes: int
    """How many handshakes this challenge needed: 0 on a session that holds."""
    miner_hotkey: str
    plaintext: bytes


class _Reply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    headers: dict[str, str]


class _Trouble(msgspec.Struct, frozen=True):
    detail: str = ""
    requires_handshake: bool = False
    public_key: str | None = None


class ValidatorClient:
    """One validator, talking to one miner. Use it as an async context manager.

    Errors of all calls: `NotAnswered` and its kinds.
    """

    def __init__(self, base_url: str, hotkey: Hotkey, timeout: float = 300.0) -> None:
        self.base_url = base_url.rstrip("/")
        self.hotkey = hotkey
        self._side = ValidatorSide(hotkey, time.time, os.urandom)
        self._timeout = timeout
        self.session: ClientSession | None = None
        """The session in use."""
        self._shaking = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def availability(self) -> AvailabilityAnswer:
        """Ask whether challenges may be sent."""
        headers = {AVAILABILITY_HOTKEY_HEADER: self.hotkey.ss58}
        reply = await self._request(
            "GET", AVAILABILITY_PATH, seconds=min(AVAILABILITY_SECONDS, self._timeout), headers=headers
        )
        _expect_ok("availability", reply)
        return _decode("availability", reply.body, AvailabilityAnswer)

    async def wait_available(self, seconds: float, tell: Callable[[str], None]) -> None:
        """Ask again until the miner is available, telling each new reason why not. Errors: `MinerNotReady`."""
        end = time.monotonic() + seconds
        pauses = iter(_ASK_AGAIN_SECONDS)
        last, reason = "", "it gives no reason"
        while True:
            pause = next(pauses, _ASK_AGAIN_SECONDS[-1])
            try:
                answer = await self.availability()
            except MinerRefused as refusal:
                if refusal.status != _RATE_LIMITED:
                    raise
                reason, pause = refusal.detail, refusal.retry_after or pause
            else:
                if answer.available:
                    return
                reason = answer.reason or reason
            if reason != last:
                tell(reason)
                last = reason
            if time.monotonic() + pause > end:
                raise MinerNotReady(f"the miner at {self.base_url} was not ready within {seconds:g} s: {reason}")
            await asyncio.sleep(pause)

    async def public_key(self) -> str:
        """Fetch the miner's RSA key (PEM)."""
        reply = await self._request("GET", PUBLIC_KEY_PATH, seconds=min(HANDSHAKE_SECONDS, self._timeout))
        _expect_ok("public key", reply)
        return _decode("public key", reply.body, dict[str, str]).get("public_key", "")

    async def shake_hands(self, public_key: str | None = None) -> ClientSession:
        """Open a session, with the miner's key given or fetched."""
        pem = await self.public_key() if public_key is None else public_key
        try:
            body, session = self._side.key_exchange(pem)
        except MinerError as error:
            raise AnswerUnreadable(f"handshake: {error}") from None
        headers = {"content-type": "application/json"}
        reply = await self._request(
            "POST", KEY_EXCHANGE_PATH, seconds=min(HANDSHAKE_SECONDS, self._timeout), headers=headers, body=body
        )
        _expect_ok("handshake", reply)
        if _decode("handshake", reply.body, dict[str, Any]).get("success") is not True:
            raise AnswerUnreadable("handshake: the miner's 200 does not say success")
        self.session = session
        return session

    async def challenge(self, payload: object) -> ReceivedAnswer:
        """Send one challenge (an object that msgspec encodes, or JSON bytes) and wait for its answer.

        As a real validator: a miner that asks for a handshake gets one with the key it sends, then one more try.
        """
        plaintext = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        started = time.perf_counter()
        session, fresh = await self._session_other_than(None)
        reply = await self._post(session, plaintext)
        if reply.status in _HANDSHAKE_NEEDED:
            trouble = _trouble(reply)
            if trouble.requires_handshake and trouble.public_key is not None:
                session, again = await self._session_other_than(session, trouble.public_key)
                fresh += again
                reply = await self._post(session, plaintext)
        _expect_ok("challenge", reply)
        try:
            opened = session.open(reply.body)
        except SessionRefused as error:
            raise AnswerUnreadable(f"challenge: the answer does not decrypt ({error})") from None
        return ReceivedAnswer(
            answer=_decode("challenge", opened, ReadAnswer),
            seconds=time.perf_counter() - started,
            handshakes=fresh,
            miner_hotkey=reply.headers.get(MINER_HOTKEY_HEADER, ""),
            plaintext=opened,
        )

    async def _session_other_than(
        self, stale: ClientSession | None, public_key: str | None = None
    ) -> tuple[ClientSession, int]:
        """Give the session, and 1 if this call had to open it: of many that find the old one stale, one does."""
        async with self._shaking:
            if self.session is not None and self.session is not stale:
                return self.session, 0
            return await self.shake_hands(public_key), 1

    async def _post(self, session: ClientSession, plaintext: bytes) -> _Reply:
        return await self._request(
            "POST",
            CHALLENGE_PATH,
            seconds=self._timeout,
            headers=session.challenge_headers(),
            body=session.seal(plaintext),
        )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        seconds: float,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> _Reply:
        if self._http is None:
            raise RuntimeError("use ValidatorClient as an async context manager")
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with (
            self._explained(path, seconds),
            self._http.request(
                method, self.base_url + path, headers=headers, data=body, timeout=timeout, allow_redirects=False
            ) as response,
        ):
            received = await response.read()
            return _Reply(response.status, received, {k.lower(): v for k, v in response.headers.items()})

    @asynccontextmanager
    async def _explained(self, path: str, seconds: float) -> AsyncGenerator[None]:
        try:
            yield
        except TimeoutError:
            raise MinerSilent(f"no answer from {self.base_url}{path} within {seconds:g} s") from None
        except aiohttp.ClientConnectorError:
            raise MinerUnreachable(f"no miner answers at {self.base_url}: start one with ./justw run") from None
        except (aiohttp.ClientError, OSError) as error:
            raise MinerUnreachable(
                f"the connection to {self.base_url} broke ({type(error).__name__}): is a miner there? see its log"
            ) from None


def _expect_ok(step: str, reply: _Reply) -> None:
    if reply.status != _OK:
        raise MinerRefused(step, reply.status, _trouble(reply).detail, _seconds(reply.headers.get("retry-after", "")))


def _trouble(reply: _Reply) -> _Trouble:
    try:
        return msgspec.json.decode(reply.body, type=_Trouble)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Trouble(detail=ascii(reply.body[:_DETAIL_LETTERS].decode("utf-8", "replace"))[1:-1])


def _seconds(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


def _decode[T](step: str, body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AnswerUnreadable(f"{step}: the miner's answer is not what validators expect ({error})") from None
