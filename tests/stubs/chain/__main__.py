"""`python -m tests.stubs.chain`: read the flags and serve."""

import argparse
import asyncio
from pathlib import Path

from tests.stubs.chain.codec import Codec
from tests.stubs.chain.node import Node


def main() -> None:
    """Serve until the standard input closes."""
    parser = argparse.ArgumentParser(description="A stand-in for a subtensor node.")
    parser.add_argument("--metadata", type=Path, required=True, help="golden.json of bittensor's source distribution")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--network", default="stub", help="whatever makes another genesis hash")
    parser.add_argument("--block-ms", type=float, default=100)
    parser.add_argument("--first-block", type=int, default=5000)
    parser.add_argument("--finality-blocks", type=int, default=3)
    arguments = parser.parse_args()
    node = Node(
        Codec(arguments.metadata),
        network=arguments.network,
        block_ms=arguments.block_ms,
        first_block=arguments.first_block,
        finality_blocks=arguments.finality_blocks,
    )
    asyncio.run(node.run(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
