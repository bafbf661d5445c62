"""The line that says what a rendered file is for."""

from app.appliance.compute.rendering.plan import Plan
from app.domain.compute.fit import MIB


def headline(plan: Plan) -> str:
    """Say which model the file serves, and where it came from."""
    profile = plan.profile
    quant = f" {profile.weights.quant}" if profile.weights else ""
    context = f", context {profile.context}" if profile.context else ""
    where = ""
    if profile.cards is not None:
        where = f" on {len(profile.cards.indices)} x {profile.cards.name} ({profile.cards.memory // MIB} MiB)"
    tier = f", tier {profile.tier}" if profile.tier else ""
    return f"{profile.model}{quant}{context}{where}{tier}: made by loosh-miner engine render"


def unpinned(plan: Plan) -> str | None:
    """Say so where the weights have no revision yet, for then nothing is reproducible."""
    weights = plan.profile.weights
    if weights is None or weights.repository is None or weights.revision is not None:
        return None
    return "no revision yet: run loosh-miner models pull first, then render again"
