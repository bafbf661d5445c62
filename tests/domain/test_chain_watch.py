"""What a metagraph says of this miner, and the answer's age: alarms with remedies, nothing done about them."""

import pytest

from app.domain.chain_watch import STALLED_SECONDS, ChainWatch, permitted
from app.domain.last_answer import LastAnswer
from app.domain.metagraph import Axon, Metagraph, Neuron
from tests.domain.hand_clock import HandClock

HERE = Axon("203.0.113.7", 8000)


def neuron(uid: int, hotkey: str, *, permit: bool = False, incentive: float = 0.0, axon: Axon | None = None) -> Neuron:
    return Neuron(uid=uid, hotkey=hotkey, validator_permit=permit, stake=1.0, incentive=incentive, axon=axon)


def graph(block: int, *neurons: Neuron) -> Metagraph:
    return Metagraph(78, block, neurons)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def watch(clock: HandClock) -> ChainWatch:
    return ChainWatch("5Me", 78, "finney", clock)


def names(watch: ChainWatch) -> list[str]:
    return [alarm.name for alarm in watch.alarms()]


def test_nothing_is_said_before_the_first_metagraph(watch: ChainWatch) -> None:
    assert watch.alarms() == ()
    assert watch.report().registered is None


def test_all_is_well(watch: ChainWatch) -> None:
    others = [neuron(uid, f"5{uid}", incentive=0.1 * uid) for uid in range(1, 5)]
    watch.saw(graph(7, neuron(0, "5Me", incentive=0.25, axon=HERE), *others, neuron(9, "5V", permit=True)), HERE)
    report = watch.report()
    assert (report.uid, report.rank, report.neurons, report.permits, report.axon_matches) == (0, 3, 6, 1, True)
    assert watch.alarms() == ()


@pytest.mark.parametrize(
    ("mine", "ours", "alarm", "remedy"),
    [
        (None, HERE, "deregistered", "btcli subnet register --netuid 78"),
        (neuron(1, "5Me"), HERE, "axon_absent", "loosh-miner register"),
        (neuron(1, "5Me", axon=Axon("203.0.113.8", 8000)), HERE, "axon_differs", "EXTERNAL_ADDRESS"),
        (neuron(1, "5Me", axon=Axon("203.0.113.7", 8001)), HERE, "axon_differs", "203.0.113.7:8001"),
        (neuron(1, "5Me", axon=HERE), Axon("2001:db8::1", 8000), "axon_differs", "[2001:db8::1]:8000"),
    ],
)
def test_each_trouble_has_its_remedy(
    watch: ChainWatch, mine: Neuron | None, ours: Axon, alarm: str, remedy: str
) -> None:
    watch.saw(graph(7, *([mine] if mine else [])), ours)
    (found,) = watch.alarms()
    assert found.name == alarm
    assert remedy in found.text


def test_nothing_is_compared_where_our_address_is_not_known(watch: ChainWatch) -> None:
    watch.saw(graph(7, neuron(1, "5Me", axon=HERE)), None)
    assert watch.report().axon_matches is None
    assert watch.alarms() == ()


def test_addresses_are_compared_in_one_spelling(watch: ChainWatch) -> None:
    watch.saw(graph(7, neuron(1, "5Me", axon=Axon("2001:db8:0:0::1", 8000))), Axon("2001:DB8::1", 8000))
    assert watch.report().axon_matches is True


def test_a_head_that_stands_still(watch: ChainWatch, clock: HandClock) -> None:
    mine = neuron(1, "5Me", axon=HERE)
    watch.saw(graph(7, mine), HERE)
    clock.now += STALLED_SECONDS
    watch.saw(graph(7, mine), HERE)
    assert names(watch) == []
    clock.now += 1
    assert names(watch) == ["head_stalled"], "also when no metagraph comes at all"
    watch.saw(graph(6, mine), HERE)
    assert names(watch) == ["head_stalled"]
    assert "SUBTENSOR_ADDRESS" in watch.alarms()[0].text
    watch.saw(graph(8, mine), HERE)
    assert names(watch) == []


def test_a_node_that_lags_behind_although_it_moves(watch: ChainWatch, clock: HandClock) -> None:
    mine = neuron(1, "5Me", axon=HERE)
    for block, age in ((7, STALLED_SECONDS), (8, STALLED_SECONDS + 1), (9, 12.0), (10, -5.0)):
        watch.saw(Metagraph(78, block, (mine,), clock.now - age), HERE)
        assert names(watch) == (["head_stalled"] if block == 8 else [])
        assert watch.report().lag_seconds == age
    watch.saw(Metagraph(78, 11, (mine,), clock.now - 7200), HERE)
    assert "120 minutes old" in watch.alarms()[0].text
    assert "SUBTENSOR_ADDRESS" in watch.alarms()[0].text


def test_validators_and_their_published_addresses() -> None:
    neurons = (
        neuron(0, "5Miner", axon=HERE),
        neuron(1, "5A", permit=True, axon=Axon("203.0.113.1", 9)),
        neuron(2, "5B", permit=True, axon=Axon("0.0.0.0", 0)),  # noqa: S104
        neuron(3, "5C", permit=True),
    )
    found = {one.hotkey: one.addresses for one in permitted(graph(7, *neurons))}
    assert found == {"5A": ("203.0.113.1",), "5B": (), "5C": ()}


class Kept:
    """A `MomentStore` in memory."""

    def __init__(self, at: float | None = None) -> None:
        self.at = at
        self.saves = 0

    async def load(self) -> float | None:
        return self.at

    async def save(self, at: float) -> None:
        self.at = at
        self.saves += 1


def test_the_alarms_of_the_last_answers_age(clock: HandClock) -> None:
    last = LastAnswer(Kept(), clock)
    found: list[str] = []
    for minutes in (44, 46, 89, 91, 149, 151, 300):
        clock.now = 1000.0 + minutes * 60
        found.append(" ".join(alarm.name for alarm in last.alarms()))
    assert found == ["", *["last_answer_45"] * 2, *["last_answer_90"] * 2, *["last_answer_150"] * 2]
    assert "since the start" in last.alarms()[0].text
    last.answered()
    assert last.alarms() == ()
    assert last.report().age_seconds == 0.0


async def test_the_last_answer_is_kept_only_when_there_is_a_new_one(clock: HandClock) -> None:
    kept = Kept()
    last = LastAnswer(kept, clock)
    await last.keep()
    assert kept.saves == 0
    last.answered()
    await last.keep()
    await last.keep()
    assert (kept.at, kept.saves) == (1000.0, 1)
