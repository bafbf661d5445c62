"""The chain and the wallet."""
