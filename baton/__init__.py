"""The vocabulary that every room of Baton shares.

Here live ids, errors, settings, the clock, background tasks and logging: words and small tools
with no opinion about serving. Anything may import this package; it imports the standard library,
pydantic and PyYAML, and no other room. What needs vLLM, Ray, gRPC, NIXL or HTTP does not belong
here (generated stubs in `wire` are the one exception), nor does any decision about requests,
workers or memory.
"""
