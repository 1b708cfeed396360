"""One vLLM engine as a worker.

`preflight` refuses what cannot start, `core` owns the engine process, `worker` runs legs on it and
packs step frames, `service` speaks gRPC to routers. `core` and `scheduler` are the only files that
touch vLLM's internals. What is special to prefill or decode comes in as a `role.Role`; nothing
here knows routers' policies or Ray.
"""
