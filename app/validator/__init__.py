"""A validator in one object: for the `challenge` command, tests and the benchmark."""
