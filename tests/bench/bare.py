"""The same stack without a miner in it, to compare with: granian, Litestar, msgspec, `cryptography`, aiohttp.

`python -m tests.bench.bare ENGINE_URL MODEL` listens on a free port and prints it. It opens a challenge, asks the
engine for the whole text in one piece and seals the answer. There is no admission, deadline, streaming, limit, replay
memory, metric, log, probe or check of any kind: whatever the miner costs more than this is what those cost.
"""

import asyncio
import subprocess
import sys
import time
from typing import Any, Final, Self

import aiohttp
import msgspec
import uvloop
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from litestar import Litestar, Request, Response, get, post

from tests.miner.process import ROOT, StubEngine, free_port
from tests.miner.validator import CHALLENGE, KEY_EXCHANGE, OAEP, PUBLIC_KEY, verified

_OCTETS: Final = "application/octet-stream"
_LISTENING_SECONDS: Final = 1


class _Handshake(msgspec.Struct):
    encrypted_symmetric_key: str
    symmetric_key_uuid: str
    timestamp: float
    nonce: str
    signature: str
    validator_hotkey_ss58: str


class _Challenge(msgspec.Struct):
    messages: msgspec.Raw
    max_tokens: int
    temperature: float
    top_p: float


class _Said(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Said


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: dict[str, int]


def app(engine: str, model: str, session: aiohttp.ClientSession) -> Litestar:
    """The routes that the benchmark calls."""
    private = rsa.generate_private_key(65537, 2048)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    keys: dict[str, Fernet] = {}
    completion = msgspec.json.Decoder(_Completion)
    wanted = msgspec.json.Decoder(_Challenge)

    @get("/availability")
    async def availability() -> dict[str, bool]:
        return {"available": True}

    @get(PUBLIC_KEY)
    async def public_key() -> dict[str, str]:
        return {"public_key": pem}

    @post(KEY_EXCHANGE, status_code=200)
    async def key_exchange(request: Request[Any, Any, Any]) -> dict[str, bool]:
        asked = msgspec.json.decode(await request.body(), type=_Handshake)
        signed = f"{asked.timestamp}.{asked.nonce}.{asked.validator_hotkey_ss58}"
        assert verified(asked.validator_hotkey_ss58, signed, asked.signature)
        keys[asked.symmetric_key_uuid] = Fernet(private.decrypt(bytes.fromhex(asked.encrypted_symmetric_key), OAEP))
        return {"success": True}

    @post(CHALLENGE, status_code=200, media_type=_OCTETS)
    async def challenge(request: Request[Any, Any, Any]) -> Response[bytes]:
        name = request.headers["x-fiber-symmetric-key-uuid"]
        key = keys[name]
        asked = wanted.decode(key.decrypt(await request.body()))
        order = {name: getattr(asked, name) for name in asked.__struct_fields__} | {"model": model}
        async with session.post(f"{engine}/chat/completions", data=msgspec.json.encode(order)) as response:
            answer = completion.decode(await response.read())
        text = {"response_text": answer.choices[0].message.content, "usage": answer.usage}
        return Response(
            key.encrypt(msgspec.json.encode(text)), media_type=_OCTETS, headers={"x-fiber-symmetric-key-uuid": name}
        )

    return Litestar([availability, public_key, key_exchange, challenge], openapi_config=None, logging_config=None)


async def serve(engine: str, model: str) -> None:
    """Listen until ended."""
    port = free_port()
    async with aiohttp.ClientSession(headers={"content-type": "application/json"}) as session:
        server = Server(
            app(engine, model, session),
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backpressure=16_384,
            log_enabled=False,
        )
        serving = asyncio.create_task(server.serve())
        print(port, flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.read)  # whoever started us is gone
        server.stop()
        await serving


class BareStack:
    """It as a process, for as long as the block runs."""

    def __init__(self, engine: StubEngine) -> None:
        command = [sys.executable, "-m", "tests.bench.bare", engine.base_url, engine.model]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def __enter__(self) -> Self:
        time.sleep(_LISTENING_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2]))
