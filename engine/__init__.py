"""One vLLM engine as a worker.

`preflight` refuses what cannot start, `core` owns the engine process, `worker` runs legs on it and
packs step frames, `service` speaks gRPC to routers. `outlook` says what is cached, what work costs
and how long the queue is. `core` and `inside` are the only files that touch vLLM's internals. What
is special to prefill or decode comes in as a `role.Role`; nothing here knows routers' policies or
Ray.
"""
