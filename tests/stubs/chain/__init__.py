"""A stand-in for a subtensor node: `python -m tests.stubs.chain --metadata FILE`, a process of its own.

It serves the real metadata of the current runtime, so that the client encodes and decodes as on the live chain, and
runs what the miner needs of the pallet: neurons, `get_metagraph`, and `serve_axon` with the chain's own checks in the
chain's own order. Blocks come at a pace of its own, finality some blocks behind them. Requests are JSON-RPC over a
websocket; the `dev_...` methods also come as lines on standard input, so that a test can order a node about that
answers nobody. It prints one line of JSON with its port when ready, and ends when its standard input closes.
"""
