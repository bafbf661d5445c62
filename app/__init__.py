"""Loosh Miner: answers encrypted challenges of Bittensor subnet 78 with a language model."""

__version__ = "0.1.0"
