"""`fiber-post-ip`: the command that operators of Fiber's miners know, over `register`'s code (protocol, section 6)."""

import click
from rich_click import RichCommand

from app.cli.register import carry_out


@click.command(cls=RichCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--netuid", type=click.IntRange(0, 65535), required=True, help="The subnet.")
@click.option("--subtensor.network", "network", help="finney, test or local; SUBTENSOR_NETWORK if not given.")
@click.option("--subtensor.chain_endpoint", "node", help="A node's address, instead of the network's own.")
@click.option("--wallet.name", "wallet", help="The wallet; WALLET_NAME if not given.")
@click.option("--wallet.hotkey", "hotkey", help="The hotkey; HOTKEY_NAME if not given.")
@click.option("--external_ip", required=True, help="Where validators reach the miner: IP address or host name.")
@click.option("--external_port", type=click.IntRange(1, 65535), required=True, help="The port there.")
def fiber_post_ip(
    *,
    netuid: int,
    network: str | None,
    node: str | None,
    wallet: str | None,
    hotkey: str | None,
    external_ip: str,
    external_port: int,
) -> None:
    """Post the miner's address on chain, without asking. `loosh-miner register` is the same, with more choice.

    Settings that have no flag here (WALLET_PATH, HOTKEY_PASSWORD_FILE...) come from the environment and .env. On the
    network `local`, addresses of private networks are taken too.

    Exit codes: 0 the chain holds the address, 1 it does not, and the text says why, 2 wrong usage, settings, wallet or
    address, 3 the hotkey is not registered on the subnet, 4 a post was sent and its outcome is not known.
    """
    from app.cli.registering import Wish  # noqa: PLC0415 - keeps --help quick

    given = {
        "NETUID": str(netuid),
        "SUBTENSOR_NETWORK": network,
        "SUBTENSOR_ADDRESS": node,
        "WALLET_NAME": wallet,
        "HOTKEY_NAME": hotkey,
    }
    wish = Wish(
        address=external_ip,
        port=external_port,
        allow_private=network == "local",
        overrides={name: value for name, value in given.items() if value is not None},
    )
    carry_out(wish, sure=True, as_json=False)
