"""Which workers serve a request: pure functions of a frozen view.

A policy takes a `PolicyView` and `RequestFacts` and returns a `Plan` or a `Refusal`. It reads no
clock, keeps no memory and knows neither links nor flows; `types` holds what all policies share.
"""
