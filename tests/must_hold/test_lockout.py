"""What strangers and thieves send never costs an honest validator its turn (threats 2, 7, 22)."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from tests.chain.registered import NETUID, on_chain, write_hotkey
from tests.conftest import StartChain, StartMiner
from tests.miner.flood import Flood, Order, Report
from tests.miner.http import encode
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import (
    CHALLENGE,
    KEY_EXCHANGE,
    PUBLIC_KEY,
    Hotkey,
    Session,
    Validator,
    challenge,
    handshake_fields,
)
from tests.must_hold.conftest import Honest, NewValidator

JSON = {"Content-Type": "application/json"}


LISTED = [Hotkey() for _ in range(7)]
AT_HOME, QUIET, *HOMELESS = LISTED


@pytest.fixture(scope="module")
def limited(start_miner: StartMiner, start_chain: StartChain, tmp_path_factory: pytest.TempPathFactory) -> MinerProcess:
    """A miner with its rate limits on and its allow-list read from the chain, as in production."""
    home, node = tmp_path_factory.mktemp("limited"), start_chain()
    write_hotkey(home)
    node.add_subnet(NETUID)
    for hotkey in LISTED:
        home_of = {} if hotkey in HOMELESS else {"axon": "127.6.0.2:8000"}
        node.register(NETUID, hotkey.ss58, permit=True, stake=2000.0, **home_of)
    settings = on_chain(home, node, None, ENABLE_RATE_LIMITS="true", MAX_CONCURRENT_REQUESTS=4, MAX_QUEUED_REQUESTS=8)
    return start_miner(home=home, **settings)


def forged(victim: Validator, pem: str, port: int) -> list[bytes]:
    """What a stranger can send in a validator's name (not to /inference: these sources are of this machine)."""
    host = f"127.0.0.1:{port}"
    named = {"validator-hotkey": victim.hotkey.ss58, "x-fiber-validator-hotkey-ss58": victim.hotkey.ss58}
    thief = Session(victim.hotkey)
    unsigned = handshake_fields(victim.hotkey, pem, thief.key, signature="0x" + "5a" * 64)
    session = victim.session
    assert session is not None
    junk = thief.seal(challenge("not mine"))
    return [
        encode("GET", "/availability", None, named, host=host),
        encode("GET", PUBLIC_KEY, None, named, host=host),
        encode("POST", KEY_EXCHANGE, json.dumps(unsigned).encode(), JSON | named, host=host),
        encode("POST", KEY_EXCHANGE, b'{"validator_hotkey_ss58": 1}', JSON | named, host=host),
        encode("POST", CHALLENGE, junk, session.headers, host=host),
        encode("POST", CHALLENGE, junk, thief.headers, host=host),
        encode("POST", CHALLENGE, b"junk", session.headers, host=host),
    ]


async def beside(honest: Sequence[Honest], order: Order, *, questions: int = 0) -> Report:
    """Let honest validators ask while the flood runs, and on until so many questions were asked in all."""
    asking = [asyncio.create_task(one.run()) for one in honest]
    flood = await Flood.start(order)
    try:
        report = await asyncio.wait_for(flood.report(), 120)
        async with asyncio.timeout(60):
            while sum(len(one.seconds) + len(one.failed) for one in honest) < questions:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.1)
        return report
    finally:
        await flood.stop()
        for one in honest:
            one.stop()
        await asyncio.gather(*asking)


async def test_threat_7_nobody_is_locked_out_by_name(
    limited: MinerProcess, new_validator: NewValidator, engine: StubEngine
) -> None:
    """10 000 forgeries in five validators' names from 100 addresses; the validators, at addresses that they have
    published nowhere, ask and shake hands on, each as often as its budgets of a minute let it in these seconds.
    """
    victims = [await new_validator(limited, f"127.4.0.{at + 1}", hotkey) for at, hotkey in enumerate(HOMELESS)]
    sessions = [await victim.shake() for victim in victims]
    pem = await victims[0].public_key()
    requests = [one for victim in victims for one in forged(victim, pem, limited.port)]
    sources = [f"127.4.1.{at + 1}" for at in range(100)]
    honest = [Honest(victim, 0.28) for victim in victims]
    order = Order(port=limited.port, requests=requests, sources=sources, total=10_000, rate=1300)
    report = await beside(honest, order, questions=100)
    print(f"\nlock-out: {report}; honest: {'; '.join(map(str, honest))}")  # noqa: T201
    assert report.sent == 10_000
    assert not {status for status in report.statuses if status >= 500} - {503}
    answered = sum(len(one.seconds) for one in honest)
    failed = [why for one in honest for why in one.failed]
    assert answered + len(failed) >= 100
    assert answered / (answered + len(failed)) >= 0.99, failed[:5]
    assert [victim.session for victim in victims] == sessions, "the sessions they had were never lost"
    for victim in victims:
        await victim.shake()
    assert (await victims[0].ask("after all that"))["response_text"]


async def test_threat_2_a_relayed_session_gets_no_more_than_its_share(
    limited: MinerProcess, start_miner: StartMiner, new_validator: NewValidator, engine: StubEngine
) -> None:
    """Another miner relays a handshake, then floods through its own session of the same hotkey."""
    miner = start_miner(MAX_CONCURRENT_REQUESTS=4, MAX_QUEUED_REQUESTS=8)
    engine.behave(first_token_ms=50)
    genuine = await new_validator(miner)
    session = await genuine.shake()
    alone = Honest(genuine, 0.05)
    asking = asyncio.create_task(alone.run())
    await asyncio.sleep(3)
    alone.stop()
    await asking

    relays: list[Validator] = []
    for at in range(24):
        relay = await new_validator(miner, f"127.5.0.{at + 1}", genuine.hotkey)
        relay.session = relays[0].session if relays else await relay.shake()
        relays.append(relay)
    stop = asyncio.Event()
    statuses: dict[int, int] = {}

    async def flood(relay: Validator) -> None:
        while not stop.is_set():
            reply = await relay.send(challenge("relayed"))
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
            await asyncio.sleep(0.02 if reply.status != 200 else 0)

    flooding = [asyncio.create_task(flood(relay)) for relay in relays]
    await asyncio.sleep(0.5)
    honest = Honest(genuine, 0.05)
    asking = asyncio.create_task(honest.run())
    await asyncio.sleep(6)
    honest.stop()
    await asking
    stop.set()
    await asyncio.gather(*flooding, return_exceptions=True)
    rates = len(alone.seconds) / 3, len(honest.seconds) / 6
    print(f"\nrelay: {statuses}; alone: {alone}; beside it: {honest}; rates {rates[0]:.1f} and {rates[1]:.1f}/s")  # noqa: T201
    assert honest.success >= 0.9, str(honest)
    assert genuine.session is session
    assert rates[1] > rates[0] * 0.6, "and it hardly waits longer"


@pytest.mark.slow
async def test_threat_22_a_flood_of_strangers_does_not_slow_validators(
    limited: MinerProcess, new_validator: NewValidator, engine: StubEngine
) -> None:
    """2000 unauthenticated requests a second for 20 s, two thirds of them from addresses over their limit."""
    engine.behave(first_token_ms=20)
    quiet = Honest(await new_validator(limited, "127.6.0.1", QUIET), 0.55)
    asking = asyncio.create_task(quiet.run())
    await asyncio.sleep(8)
    quiet.stop()
    await asking
    victim = await new_validator(limited, "127.6.0.2", AT_HOME)
    await victim.shake()
    pem = await victim.public_key()
    requests = forged(victim, pem, limited.port)
    for _ in range(40):
        fields = handshake_fields(Hotkey(), pem, b"k" * 44, signature="0x" + "5a" * 64)
        requests.append(encode("POST", KEY_EXCHANGE, json.dumps(fields).encode(), JSON, host="miner"))
    order = Order(
        port=limited.port,
        requests=requests,
        sources=[f"127.6.{1 + at // 200}.{at % 200 + 1}" for at in range(400)],
        total=40_000,
        rate=2000,
    )
    honest = Honest(victim, 0.55)
    before = limited.cpu()
    report = await beside([honest], order)
    print(  # noqa: T201
        f"\nflood: {report.sent / report.seconds:.0f}/s {report.statuses}, {report.closed} closed, "
        f"{1000 * (limited.cpu() - before) / report.sent:.3f} ms CPU each\n  quiet: {quiet}\n  flood: {honest}"
    )
    assert honest.failed == []
    assert honest.quantile(0.99) < 2
    assert limited.alive
