"""What the machine is made of: detected with a time-out for every probe, or read from a recording."""
