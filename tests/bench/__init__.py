"""What a challenge costs: `python -m tests.bench`."""
