"""What the least possible work costs on this machine, measured in the same run as everything else."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import aiohttp
import msgspec
import uvloop
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.miner.process import StubEngine
from tests.miner.validator import OAEP, Hotkey

KIB: Final = 1024
REFERENCE_RSA_MS: Final = 0.233
REFERENCE_SR25519_MS: Final = 0.036
REFERENCE_CALL_MS: Final = 0.079
"""What one call of an engine over aiohttp costs where the budget was measured: Python, C and sockets mixed as a miner
mixes them, so that it tells how fast this machine is for such work. RSA does not: it hangs on one set of instructions.
"""
CALLS: Final = 1000


class Floors(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of processor time for each."""

    rsa_decrypt: float
    sr25519_verify: float
    fernet_1_kib: float
    fernet_16_kib: float
    fernet_128_kib: float
    aiohttp_call: float

    @property
    def slower(self) -> float:
        """How many times slower than the budget's machine this one is now, at a miner's kind of work."""
        return self.aiohttp_call / REFERENCE_CALL_MS

    @property
    def slower_handshake(self) -> float:
        """The same for a handshake, most of which is RSA and sr25519."""
        return (self.rsa_decrypt + self.sr25519_verify) / (REFERENCE_RSA_MS + REFERENCE_SR25519_MS)

    def mean(self, other: "Floors") -> "Floors":
        """Between two measurements, before and after the rest."""
        return Floors(**{name: (getattr(self, name) + getattr(other, name)) / 2 for name in self.__struct_fields__})


def cost(work: Callable[[], object], times: int) -> float:
    """Milliseconds of processor time for one call: the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        before = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - before) * 1000 / times)
    return best


async def call_cost(url: str, body: bytes) -> float:
    """Milliseconds of processor time for one bare call of the engine stub."""
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def calls(count: int) -> None:
            for _ in range(count):
                async with session.post(f"{url}/chat/completions", data=body) as response:
                    msgspec.json.decode(await response.read())

        await calls(100)
        before = time.process_time()
        await asyncio.gather(*(calls(CALLS // 10) for _ in range(10)))
        return (time.process_time() - before) * 1000 / CALLS


def measure() -> Floors:
    """All floors."""
    times = 300
    with StubEngine() as engine:
        request = {"model": engine.model, "messages": [{"role": "user", "content": "a" * KIB}], "max_tokens": 512}
        aiohttp_call = uvloop.run(call_cost(engine.base_url, msgspec.json.encode(request)))
    private = rsa.generate_private_key(65537, 2048)
    sealed = private.public_key().encrypt(Fernet.generate_key(), OAEP)
    hotkey = Hotkey()
    message = f"1795437100.7428412.80b16d96-ca1f-4032-9c39-72137cd6edfd.{hotkey.ss58}"
    signature = bytes.fromhex(hotkey.sign(message)[2:])
    fernet = Fernet(Fernet.generate_key())
    answer = b"a" * 2 * KIB

    def open_and_seal(size: int) -> float:
        token = fernet.encrypt(b"a" * size * KIB)
        return cost(lambda: (fernet.decrypt(token), fernet.encrypt(answer)), times)

    return Floors(
        rsa_decrypt=cost(lambda: private.decrypt(sealed, OAEP), times),
        sr25519_verify=cost(lambda: hotkey.pair.verify(message.encode(), signature), times),
        fernet_1_kib=open_and_seal(1),
        fernet_16_kib=open_and_seal(16),
        fernet_128_kib=open_and_seal(128),
        aiohttp_call=aiohttp_call,
    )
