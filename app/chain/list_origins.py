"""Where lists of validators are from: one of another subnet, chain or API is of no use."""

from collections.abc import Mapping

from app.chain.networks import subnet_of
from app.domain.allow_list import ListSource
from app.settings_model import Settings


def list_origins(settings: Settings) -> Mapping[ListSource, str]:
    """Name each source as its lists on disk name it."""
    subnet = subnet_of(settings)
    return {
        "metagraph": f"{subnet.node_shown} netuid {subnet.netuid}",
        "challenge-api": settings.challenge_api_url.rstrip("/"),
    }
