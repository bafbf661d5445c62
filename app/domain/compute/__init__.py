"""From the machine and the subnet's list of models to one engine profile, or to the reasons why none can work."""
