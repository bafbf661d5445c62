"""Engines that write the answers."""
