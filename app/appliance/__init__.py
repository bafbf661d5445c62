"""What touches the machine the miner runs on."""
