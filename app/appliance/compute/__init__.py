"""`min_compute.yml`, the lock of weights, what engines are started with, and fetching weights."""
