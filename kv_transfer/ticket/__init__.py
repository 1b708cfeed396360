"""The ticket: who may touch which block while KV moves from prefill into decode.

One ticket is one attempt to move one prompt's KV. `source` is the machine of the prefill end,
`target` that of the decode end, both pure: events in, commands out. `words` has the types of both,
`codec` the bytes that travel. Whoever drives a machine owns clocks, threads, memory and NIXL.
"""
