"""Reading bodies with limits of size and time: the server has neither (design decision 2; threats 10, 11 and 12)."""

import asyncio
from typing import Final

import msgspec
from litestar import Request
from litestar.datastructures import State

from app.errors import BodyTooLarge, BodyTooSlow, EncodingUnsupported

PlainRequest = Request[None, None, State]

_GRACE_SECONDS: Final = 2.0
_LEAST_BYTES_PER_SECOND: Final = 1024


class ClientGone(Exception):
    """The caller closed the connection; there is nobody to answer."""


class BodyLimits(msgspec.Struct, frozen=True):
    """The largest body, in bytes, and how long it may take to arrive, in seconds."""

    most_bytes: int
    seconds: float


async def read_body(request: PlainRequest, limits: BodyLimits, *, keep: bool = True) -> bytes:
    """The whole body. Errors: `EncodingUnsupported`, `BodyTooLarge`, `BodyTooSlow`, `ClientGone`.

    A body that announces its size is refused before a byte is read, others as soon as they cross the limit. Without
    `keep` it is read and counted all the same, but costs no memory, and is empty: for who will be refused anyway.
    """
    encoding = request.headers.get("content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise EncodingUnsupported("Content-Encoding must be identity: send the body uncompressed")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.most_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.seconds):
            return await _collect(request, limits, keep=keep)
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {limits.seconds:g} s") from None


async def _collect(request: PlainRequest, limits: BodyLimits, *, keep: bool) -> bytes:
    time = asyncio.get_running_loop().time
    began = time()
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if message["type"] != "http.request":
            continue
        chunk = message["body"]
        size += len(chunk)
        if size > limits.most_bytes:
            raise _too_large(limits)
        if keep:
            chunks.append(chunk)
        if not message["more_body"]:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        elapsed = time() - began
        if elapsed > _GRACE_SECONDS and size < elapsed * _LEAST_BYTES_PER_SECOND:
            raise BodyTooSlow(f"the body comes at less than {_LEAST_BYTES_PER_SECOND} bytes/s")


def _too_large(limits: BodyLimits) -> BodyTooLarge:
    return BodyTooLarge(f"the body is over the limit of {limits.most_bytes} bytes")
