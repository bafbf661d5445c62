"""llama.cpp inside the process, with continuous batching.

Nothing is imported here, and `backend` loads llama_cpp and numpy only in the engine's thread: a miner whose
engine runs elsewhere never pays for them.
"""
