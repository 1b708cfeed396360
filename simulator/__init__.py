"""Drives the router's own policies over recorded requests, in simulated time.

`traces` reads recorded loads and makes up others. `engine_model` fits the times of one engine to a
measured profile. `cluster_model` is a whole cluster: engines (`engine`, `kv_pool`), transfers
(`wire`), members that come and go (`fleet`, `changes`), what routers know (`views`); routers and a
controller are plugged in (`plugs`, `policy_router`), and `results` says what came of it.

`reference` is the small setting in which routing rules are compared: single-queue prefill workers,
exact costs, several routers with partial views. Rules speak `words`; `desk` is the router's own
policy as a rule, and `bridge` lets every rule work in the cluster model, too. Nothing here reads a
clock; chance comes from seeds.
"""
