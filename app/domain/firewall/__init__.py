"""Which addresses may reach the miner's port, and the rules of the packet filter that say so."""
