"""How many workers a load needs, and whether disaggregation pays: the simulator asked backwards.

`setups` are the clusters that can be bought, `replay` runs a trace through one of them, `search`
finds the cheapest that keeps the promises, `surety` says how sure that is, `planner` puts the
answers together over kinds of clusters, hardware and loads, and `verdict` says it in words.
"""
