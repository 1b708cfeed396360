"""Hand-written stand-ins for the ports of the rooms, shared by the unit and wire tiers."""
