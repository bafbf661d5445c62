"""The HTTP side of one engine: one warm pool, no redirects, bounded sizes, private addresses (threats 19 and 21)."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from app.errors import BackendUnavailable
from app.secret import Secret

_CONNECT_SECONDS: Final = 5.0
_ASK_SECONDS: Final = 5.0
_KEEPALIVE_SECONDS: Final = 75.0
_MOST_BYTES: Final = 1024 * 1024
_OK: Final = 200
_KEY_WANTED: Final = frozenset({401, 403})


class EngineHttp:
    """One engine's address and the connections to it."""

    def __init__(
        self,
        engine: str,
        root: str,
        may_connect: Callable[[str], bool] | None = None,
        key: Secret[str] | None = None,
    ) -> None:
        self.engine = engine
        """The engine's name in messages."""
        self.root = root
        """Without `/v1` and without a slash at the end."""
        self._may_connect = may_connect
        self._key = key
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool; nothing is sent yet."""
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.reveal()}"
        resolver = None if self._may_connect is None else CheckedResolver(self._may_connect)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, resolver=resolver),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, body: bytes) -> aiohttp.ClientResponse:
        """Send a request that may be sent twice; the caller closes the response.

        A kept connection that the engine closes in the very moment in which it is used says nothing about the engine
        (vLLM closes after 5 idle seconds): the request is sent once more. Errors: aiohttp's own, `BackendUnavailable`.
        """
        session = self._opened()
        try:
            return await session.post(url, data=body, allow_redirects=False)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return await session.post(url, data=body, allow_redirects=False)

    async def ask[T](self, path: str, kind: type[T], send: object = None, *, seconds: float = _ASK_SECONDS) -> T:
        """Read a small JSON answer. Errors: `BackendUnavailable` with what to do, `TimeoutError`."""
        status, body = await self._exchange(path, send, seconds)
        if status in _KEY_WANTED:
            what = (
                "asks for a key: set ENGINE_API_KEY" if self._key is None else "does not take ENGINE_API_KEY: mend it"
            )
            raise BackendUnavailable(f"{self.engine} at {self.root} {what} (status {status})")
        if status != _OK:
            raise BackendUnavailable(f"{self.engine} at {self.root} answers {path} with status {status}: see its log")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise BackendUnavailable(f"what answers at {self.root} is no {self.engine}: mend its address") from None

    async def status_of(self, path: str) -> int:
        """The status of a `GET`. Errors as with `ask`."""
        status, _ = await self._exchange(path, None, _ASK_SECONDS)
        return status

    async def _exchange(self, path: str, send: object, seconds: float) -> tuple[int, bytes]:
        method, data = ("GET", None) if send is None else ("POST", msgspec.json.encode(send))
        request = self._opened().request(method, self.root + path, data=data, allow_redirects=False)
        try:
            async with asyncio.timeout(seconds), request as response:
                body = bytearray()
                while len(body) < _MOST_BYTES and (part := await response.content.read(_MOST_BYTES - len(body))):
                    body += part
                return response.status, bytes(body)
        except TimeoutError:  # an OSError too, but its own matter
            raise
        except aiohttp.ClientConnectorDNSError as error:
            said = error.os_error.strerror or "its name is not known"
            raise BackendUnavailable(f"{self.engine} can't be reached at {self.root}: {said}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(
                f"{self.engine} can't be reached at {self.root} ({type(error).__name__}): start it, or mend its address"
            ) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            raise BackendUnavailable(f"the connection to {self.engine} is not open")
        return self._session


class CheckedResolver(AbstractResolver):
    """Leads only to addresses that `may_connect`, whatever a name says today (threat 19)."""

    def __init__(self, may_connect: Callable[[str], bool], inner: AbstractResolver | None = None) -> None:
        self._may_connect = may_connect
        self._inner = inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name's addresses, without the ones that may not be used. Errors: `OSError`."""
        found = await self._inner.resolve(host, port, family)
        allowed = [address for address in found if self._may_connect(address["host"])]
        if found and not allowed:
            raise OSError(None, "its name leads to a public address: mend it, or set ALLOW_PUBLIC_ENGINE=true")
        return allowed

    async def close(self) -> None:
        """Nothing is kept."""
        await self._inner.close()
