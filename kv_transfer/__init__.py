"""How the KV cache gets from a prefill worker to a decode worker.

`handoff` is the interface that workers see: what a connector needs in the engine's configuration,
and what each leg's request must carry. `vllm_nixl` is vLLM's own NIXL connector behind it. Nothing
here knows routers, gRPC or Ray.
"""
