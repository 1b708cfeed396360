"""Drives the router's own policies over recorded requests, in simulated time.

`mooncake` reads traces. `reference` is the small setting in which routing rules are compared:
single-queue prefill workers, exact costs, several routers with partial views. Nothing here reads a
clock; chance comes from seeds.
"""
