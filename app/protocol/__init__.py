"""Fiber, the wire between validator and miner: handshake, sessions, envelope, replay."""
