"""`baton plan`: what to buy for a load, from the simulator's planner."""
