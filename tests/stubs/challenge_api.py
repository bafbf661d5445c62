"""A stand-in for the Challenge API: `python -m tests.stubs.challenge_api`, a process of its own.

`GET /validators/active-hotkeys` as protocol.md, section 5, describes it: the caller's hotkey must be known and have
signed `{nonce}:{hotkey}`, the nonce being unix seconds of now; an API key, if one is wanted, must be the right one.
The control port has `GET /stub` (what was seen) and `POST /stub` (a behaviour, whole). Ends when its input closes.
"""

import argparse
import asyncio
import sys
import time
from typing import Any, Final, Protocol, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]
import msgspec
from aiohttp import web

from tests.stubs.engine import until_input_closes

PATH: Final = "/validators/active-hotkeys"
FRESH_SECONDS: Final = 60.0
HUGE_BYTES: Final = 64 * 1024 * 1024
LOCAL: Final = "127.0.0.1"


class _Core(Protocol):
    """What is used of the compiled library, which brings no types."""

    def verify(self, message: bytes, signature: bytes, ss58_address: str) -> bool: ...


_core: Final = cast("_Core", bittensor_core)


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the API knows, and what is wrong with it."""

    validators: list[Any] = []
    """The answer's entries, as they are."""
    known: list[str] | None = None
    """Hotkeys that may ask; all when None."""
    api_key: str | None = None
    status: int = 200
    """Instead of an answer."""
    body: str | None = None
    """Instead of the list; a letter is a byte."""
    redirect: str | None = None
    silent: bool = False
    """Takes the request and never answers."""
    huge: bool = False
    """An endless list, without a length."""
    cut: bool = False
    """Closes the connection in the middle of the answer."""


class Stats(msgspec.Struct, kw_only=True):
    """What was seen since the last behaviour was set."""

    asked: int = 0
    refused: list[str] = []
    """Why, for each refused request."""
    headers: dict[str, str] = {}
    """Of the last request, names in lower case."""
    sent_bytes: int = 0


class Api:
    """The API's state and handlers."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.stats = Stats()

    async def active(self, request: web.Request) -> web.StreamResponse:
        """The list, or what is wrong."""
        behaviour, stats = self.behaviour, self.stats
        stats.asked += 1
        stats.headers = {name.lower(): value for name, value in request.headers.items()}
        if behaviour.silent:
            await asyncio.Event().wait()
        if behaviour.redirect is not None:
            raise web.HTTPFound(behaviour.redirect)
        if behaviour.status != web.HTTPOk.status_code:
            return web.json_response({"detail": "as the test wants it"}, status=behaviour.status)
        if (why := self.why_not(request)) is not None:
            stats.refused.append(why)
            return web.json_response({"detail": why}, status=403 if why == "unknown" else 401)
        if behaviour.huge:
            return await self.endless(request)
        text = behaviour.body
        body = msgspec.json.encode(behaviour.validators) if text is None else text.encode("latin-1")
        if behaviour.cut:
            return await self.half(request, body)
        stats.sent_bytes += len(body)
        return web.Response(body=body, content_type="application/json")

    def why_not(self, request: web.Request) -> str | None:
        """Check the signed headers; None when all is well."""
        behaviour, headers = self.behaviour, request.headers
        hotkey, nonce, signature = (headers.get(name, "") for name in ("X-Hotkey", "X-Nonce", "X-Signature"))
        if behaviour.api_key is not None and headers.get("X-API-Key") != behaviour.api_key:
            return "api key"
        if not nonce.isdecimal() or abs(time.time() - int(nonce)) > FRESH_SECONDS:
            return "nonce"
        try:
            signed = bytes.fromhex(signature.removeprefix("0x"))
            good = signature.startswith("0x") and _core.verify(f"{nonce}:{hotkey}".encode(), signed, hotkey)
        except ValueError:
            good = False
        if not good:
            return "signature"
        return None if behaviour.known is None or hotkey in behaviour.known else "unknown"

    async def endless(self, request: web.Request) -> web.StreamResponse:
        """A list that does not end before 64 MiB."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(b"[")
        piece = b'"5",' * 16384
        while self.stats.sent_bytes < HUGE_BYTES:
            await response.write(piece)
            self.stats.sent_bytes += len(piece)
        return response

    async def half(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Half of the answer that was announced."""
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response

    async def show(self, request: web.Request) -> web.Response:
        """`GET /stub`."""
        del request
        return web.Response(body=msgspec.json.encode(self.stats))

    async def behave(self, request: web.Request) -> web.Response:
        """`POST /stub`."""
        self.behaviour = msgspec.json.decode(await request.read(), type=Behaviour)
        self.stats = Stats()
        return web.Response(body=b"{}")


async def _listen(app: web.Application, port: int) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, LOCAL, port)
    await site.start()
    return runner, int(runner.addresses[0][1])


async def serve(arguments: argparse.Namespace) -> None:
    """Open both ports, say so, and serve until the input closes."""
    api = Api()
    public, control = web.Application(), web.Application()
    public.router.add_get(PATH, api.active)
    control.router.add_get("/stub", api.show)
    control.router.add_post("/stub", api.behave)
    public_runner, port = await _listen(public, arguments.port)
    control_runner, control_port = await _listen(control, 0)
    sys.stdout.write(msgspec.json.encode({"port": port, "control_port": control_port}).decode() + "\n")
    sys.stdout.flush()
    await until_input_closes()
    await public_runner.cleanup()
    await control_runner.cleanup()


def main() -> None:
    """Read the flags and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
