"""The two listeners, both served by granian in this process and on this loop (design decisions 1 and 4)."""

import asyncio
import socket
from typing import Final

import msgspec
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar.types import ASGIApp

from app.errors import SettingsError

_HEADER_TIMEOUT_MS: Final = 10_000
_BACKLOG: Final = 1024
# granian counts open connections against this and stops accepting at it: strangers must not be able to fill it.
_CONNECTIONS: Final = 16_384


class Address(msgspec.Struct, frozen=True):
    """Where a listener listens."""

    host: str
    port: int

    def url(self) -> str:
        """The address as a URL, IPv6 in brackets."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


class Listener:
    """One app on one address."""

    def __init__(self, app: ASGIApp, address: Address, setting: str) -> None:
        self.address = address
        self._setting = setting
        self._server = Server(
            app,
            address=address.host,
            port=address.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADER_TIMEOUT_MS),
            log_enabled=False,
        )
        self._serving: asyncio.Task[None] | None = None

    def check_free(self) -> None:
        """Errors: `SettingsError` when the address can't be bound, with the setting to change."""
        family = socket.AF_INET6 if ":" in self.address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.address.host, self.address.port))
            except OSError as error:
                raise SettingsError(
                    f"{self._setting}: {self.address.url()} can't be used ({error.strerror}): "
                    f"stop what uses it, or choose another {self._setting}"
                ) from None

    def start(self) -> asyncio.Task[None]:
        """Listen; the task ends when the listener has stopped, with the error if it failed."""
        self._serving = asyncio.create_task(self._server.serve())
        return self._serving

    async def stop(self) -> None:
        """Accept no more connections, finish the requests in flight, close."""
        if self._serving is None or self._serving.done():
            return
        self._server.stop()
        await self._serving
