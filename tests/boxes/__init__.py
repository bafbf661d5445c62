"""Throw-away Debian machines for tests that run the real playbooks; the tool itself is `box` beside this file."""
