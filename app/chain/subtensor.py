"""A thin, typed client of the chain over bittensor's SDK: metagraph, our axon, `serve_axon` (protocol, section 6).

Each call has a connection of its own and a time-out; every failure is a `ChainError` with cause and remedy. The SDK
takes over a second to import, and blocks the loop while it decodes: the running miner uses `app.chain.metagraph_child`.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]

from app.chain.chain_errors import bad_answer, no_subnet, refused, silent, unknown_outcome, unreachable, why_not_taken
from app.chain.networks import Subnet
from app.domain.metagraph import Axon, Metagraph, Neuron
from app.domain.posting import Posting
from app.errors import ChainError
from app.protocol.hotkeys import Hotkey

if TYPE_CHECKING:
    import bittensor

READ_SECONDS: Final = 30.0
FINALITY_SECONDS: Final = 120.0
_RAO: Final = 10**9
_SR25519: Final = 1
_PALLET: Final = "SubtensorModule"
_ODD_ANSWER: Final = (ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError)


class Subtensor:
    """The chain, at one subnet; a `MetagraphSource`."""

    def __init__(
        self, subnet: Subnet, *, read_seconds: float = READ_SECONDS, finality_seconds: float = FINALITY_SECONDS
    ) -> None:
        self.subnet = subnet
        self._read_seconds = read_seconds
        self._finality_seconds = finality_seconds

    async def metagraph(self) -> Metagraph:
        """Read all neurons, in one runtime call. Errors: `ChainError`."""
        return await self._guarded(self._metagraph())

    async def posting(self, hotkey: str) -> Posting:
        """Read what the chain holds of a hotkey's axon, and its rate limit. Errors: `ChainError`."""
        return await self._guarded(self._posting(hotkey))

    async def serve_axon(self, hotkey: Hotkey, axon: Axon) -> None:
        """Post an endpoint and wait until that is final. Costs no TAO.

        Errors: `ChainError`; with the code `unknown_outcome` the post may be on the chain or not: read it back.
        """
        signer = _Signer(hotkey, self._finality_seconds)
        try:
            await self._guarded(self._post(signer, axon), signer)
        except ChainError as error:
            if signer.used and error.code in {"timeout", "unreachable", "bad_answer"}:
                raise unknown_outcome(error.cause) from None
            raise

    async def _metagraph(self) -> Metagraph:
        async with self._client() as client:
            graph = await client.subnets.metagraph(self.subnet.netuid, commitments=False)
            if graph is None:
                raise no_subnet(self.subnet)
            now: int | None = await cast("Any", client).query(("Timestamp", "Now"), [])  # in milliseconds
            return Metagraph(
                graph.netuid, graph.block, tuple(_neuron(one) for one in graph), now / 1000 if now else None
            )

    async def _posting(self, hotkey: str) -> Posting:
        async with self._client() as client:
            block = await client.block()
            query = cast("Any", client).query
            entry: dict[str, int] | None = await query((_PALLET, "Axons"), [self.subnet.netuid, hotkey])
            limit: int | None = await query((_PALLET, "ServingRateLimit"), [self.subnet.netuid])
            axon = _axon(entry) if entry else None
            posted_at = entry["block"] if entry else None
            return Posting(block=block, rate_limit=limit or 0, axon=axon, posted_at=posted_at)

    async def _post(self, signer: "_Signer", axon: Axon) -> None:
        import bittensor as bt  # noqa: PLC0415 - takes over a second: only where the chain is used

        intent = bt.ServeAxon(netuid=self.subnet.netuid, ip=axon.ip, port=axon.port)
        async with self._client() as client:
            result: bittensor.ExtrinsicResult = await cast("Any", client).execute(intent, signer)
        if not result.success:
            error = result.error
            raise why_not_taken(error.name if error else None, result.message, self.subnet, axon)

    def _client(self) -> "contextlib.AbstractAsyncContextManager[bittensor.Client]":
        _prepare_sdk(self.subnet, asyncio.get_running_loop())
        from app.chain.sdk_client import connected  # noqa: PLC0415 - takes over a second: only where the chain is used

        return connected(self.subnet.node)

    async def _guarded[T](self, work: Awaitable[T], signer: "_Signer | None" = None) -> T:
        """Do it within the time-out, and turn what the SDK raises into ours."""
        import bittensor as bt  # noqa: PLC0415 - takes over a second: only where the chain is used

        try:
            async with asyncio.timeout(self._read_seconds) as deadline:
                if signer is not None:
                    signer.deadline = deadline
                return await work
        except TimeoutError:
            seconds = self._finality_seconds if signer is not None and signer.used else self._read_seconds
            raise silent(self.subnet, seconds) from None
        except bt.result.RpcPolicyError as error:
            raise refused(self.subnet, str(error)) from None
        except (bt.result.RpcConnectionError, OSError) as error:
            raise unreachable(self.subnet, str(error)) from None
        except (bt.result.BittensorError, *_ODD_ANSWER) as error:
            raise bad_answer(self.subnet, str(error)) from None


class _Signer:
    """The hotkey as the SDK wants one; from the moment it signs, the time for finality runs."""

    crypto_type = _SR25519

    def __init__(self, hotkey: Hotkey, finality_seconds: float) -> None:
        self._hotkey = hotkey
        self._finality_seconds = finality_seconds
        self.ss58_address = hotkey.ss58
        self.public_key = bytes(cast("Any", bittensor_core).ss58_decode(hotkey.ss58))
        self.used = False
        self.deadline: asyncio.Timeout | None = None

    def sign(self, payload: bytes) -> bytes:
        self.used = True
        if self.deadline is not None:
            self.deadline.reschedule(asyncio.get_running_loop().time() + self._finality_seconds)
        return self._hotkey.sign(payload)


def _neuron(row: "bittensor.MetagraphNeuron") -> Neuron:
    host, _, port = (row.axon or "").rpartition(":")
    return Neuron(
        uid=row.uid,
        hotkey=row.hotkey,
        validator_permit=row.validator_permit,
        stake=row.total_stake.rao / _RAO,
        incentive=row.incentive,
        axon=Axon(host.strip("[]"), int(port)) if row.axon else None,
    )


def _axon(entry: dict[str, int]) -> Axon | None:
    """The endpoint as the chain stores it: the address is a number, 0 when nothing is served."""
    if not entry["ip"]:
        return None
    kind = ipaddress.IPv6Address if entry["ip_type"] == 6 else ipaddress.IPv4Address  # noqa: PLR2004 - IP's versions
    return Axon(str(kind(entry["ip"])), entry["port"])


def _prepare_sdk(subnet: Subnet, loop: asyncio.AbstractEventLoop) -> None:
    """Point the SDK's caches into our directory, and keep it quiet: what it has to say comes as an error."""
    with contextlib.suppress(OSError):  # then it goes without a cache
        Path(subnet.cache).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ["BITTENSOR_RUNTIME_CACHE_DIR"] = subnet.cache
    os.environ["BTCLI_TOKEN_SYMBOLS_CACHE"] = f"{subnet.cache}/token-symbols.json"
    for name in ("bittensor", "websockets"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    loop.set_exception_handler(_report_all_but_sessions)


def _report_all_but_sessions(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Pass over the SDK's own task that nobody awaits: its failure has come to the caller as an error already."""
    task = context.get("future")
    if not isinstance(task, asyncio.Task) or cast("asyncio.Task[Any]", task).get_name() != "rpc-session":
        loop.default_exception_handler(context)
