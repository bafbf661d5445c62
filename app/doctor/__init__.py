"""What an operator asks when the miner does not earn: many small checks, each with the remedy beside it."""
