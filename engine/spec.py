"""What decides how one engine runs, as arguments of vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.config import KVTransferConfig
from vllm.v1.executor import Executor

from baton.settings.model import Settings
from baton.spans import SpanSink
from engine.inside import BatonMultiprocExecutor, BatonUniProcExecutor
from engine.preflight import GIB


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything that decides how one engine runs."""

    model_path: Path
    served_name: str
    device: str
    dtype: str
    settings: Settings
    transfer_config: Mapping[str, Any]
    worker_id: str = ""
    spans: SpanSink | None = None
    """Takes a span for each leg of a traced request; None = nothing is traced."""


def engine_args(spec: EngineSpec) -> dict[str, Any]:
    """Arguments of vLLM's AsyncEngineArgs for this spec."""
    model, engine = spec.settings.model, spec.settings.engine
    args: dict[str, Any] = {
        "model": str(spec.model_path),
        "served_model_name": [spec.served_name],
        "dtype": spec.dtype,
        "max_model_len": model.max_model_len_tokens,
        "seed": model.seed,
        "trust_remote_code": model.trust_remote_code,
        "enforce_eager": _eager(spec),
        "tensor_parallel_size": engine.tensor_parallel_size,
        "block_size": engine.block_size_tokens,
        "max_num_batched_tokens": engine.max_batched_tokens,
        "max_num_seqs": engine.max_running_requests,
        "enable_prefix_caching": engine.prefix_caching,
        "reasoning_parser": model.reasoning_parser or "",
        "disable_log_stats": False,
        "worker_extension_cls": "engine.inside.DeviceWorkerExtension",
        "distributed_executor_backend": _executor(engine.tensor_parallel_size),
    }
    if spec.transfer_config:
        args["kv_transfer_config"] = KVTransferConfig(**spec.transfer_config)
    return {**args, **_memory(spec), **engine.extra_args}


def _eager(spec: EngineSpec) -> bool:
    # On CPU compiling costs 30 s at start and gains a quarter (measured with the demo model).
    wanted = spec.settings.model.enforce_eager
    return wanted if wanted is not None else spec.device == "cpu"


def _executor(devices: int) -> type[Executor]:
    # On CPU vLLM's default executor polls one full core per engine.
    return BatonUniProcExecutor if devices == 1 else BatonMultiprocExecutor


def _memory(spec: EngineSpec) -> dict[str, Any]:
    engine = spec.settings.engine
    if spec.device == "cpu":
        return {"kv_cache_memory_bytes": int(engine.kv_cache_gib * GIB)}
    return {"gpu_memory_utilization": engine.gpu_memory_utilization}
