"""What this package is given by its caller, so that tests can give it something else."""

from collections.abc import Callable

type Clock = Callable[[], float]
"""The time, in unix seconds."""

type Randomness = Callable[[int], bytes]
"""So many unpredictable bytes; `os.urandom` outside of tests."""
