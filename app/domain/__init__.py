"""What the miner does with a challenge: no HTTP, no engine details."""
