"""`just soak`: load, faults, restarts, clock steps and a full disk for half an hour or more, and the figures of it."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.miner.process import StubEngine
from tests.soak.figures import HOUR, as_text
from tests.soak.soak import Plan, Soak, loud


def main() -> int:
    """Run it; 0 when nothing was lost, late or wrong and nothing grew."""
    parser = argparse.ArgumentParser(prog="just soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=0.5, help="how long (default: 0.5)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    plan = Plan(seconds=options.hours * HOUR, short=False)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), StubEngine(), plan, loud)
        try:
            figures = asyncio.run(soak.run())
        finally:
            soak.engine.stop()
    loud(as_text(figures))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    return 1 if figures.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
