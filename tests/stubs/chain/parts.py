"""The node's parts, as its methods and its orders share them."""

from dataclasses import dataclass, field

from tests.stubs.chain.behaviour import Behaviour, Stats
from tests.stubs.chain.extrinsics import Checker
from tests.stubs.chain.ledger import Ledger
from tests.stubs.chain.pool import Pool
from tests.stubs.chain.subtensor import Subtensor


@dataclass
class Parts:
    """One node."""

    ledger: Ledger
    subtensor: Subtensor
    checker: Checker
    pool: Pool
    behaviour: Behaviour = field(default_factory=Behaviour)
    stats: Stats = field(default_factory=Stats)
