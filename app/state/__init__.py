"""What is kept on disk, in STATE_DIR's one SQLite file (design decision 14)."""
