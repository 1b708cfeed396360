"""The environment of a process that owns an engine, to be set before vLLM is imported there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from baton.settings import process_environ

_SAMPLER = "VLLM_USE_FLASHINFER_SAMPLER"
"""By default it is compiled when an engine starts, and without CUDA's compiler no engine starts
(vLLM issue 49497); the one in PyTorch needs none."""


def engine_environment(
    device: str, cpu_threads: int, cores: tuple[int, ...], host: str
) -> Mapping[str, str]:
    """Variables for one engine. `cores` are the CPU cores it may compute on (CPU device only), as
    many as threads for each of its ranks in turn.

    Two CPU engines without these settings stall each other for seconds (measured on two cores).
    """
    common = {
        "VLLM_HOST_IP": host,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # The model is a local folder; nothing may be looked up on a hub.
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if device != "cpu":
        given = process_environ()
        return common if _can_compile(given) else {**common, _SAMPLER: given.get(_SAMPLER, "0")}
    ranks = [cores[i : i + cpu_threads] for i in range(0, len(cores), cpu_threads)]
    return {
        **common,
        "OMP_NUM_THREADS": str(cpu_threads),
        "VLLM_CPU_OMP_THREADS_BIND": "|".join(",".join(map(str, rank)) for rank in ranks),
    }


def _can_compile(given: Mapping[str, str]) -> bool:
    """Whether there is CUDA's compiler, as FlashInfer looks for it."""
    home = given.get("CUDA_HOME") or given.get("CUDA_PATH") or "/usr/local/cuda"
    return shutil.which("nvcc") is not None or os.access(f"{home}/bin/nvcc", os.X_OK)


def cores_for(index: int, threads: int, available: tuple[int, ...]) -> tuple[int, ...]:
    """The cores of the `index`-th worker on a machine: neighbours take different ones."""
    start = index * threads
    return tuple(available[(start + i) % len(available)] for i in range(threads))
