"""The environment of a process that owns an engine, to be set before vLLM is imported there."""

from __future__ import annotations

from collections.abc import Mapping


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
        return common
    ranks = [cores[i : i + cpu_threads] for i in range(0, len(cores), cpu_threads)]
    return {
        **common,
        "OMP_NUM_THREADS": str(cpu_threads),
        "VLLM_CPU_OMP_THREADS_BIND": "|".join(",".join(map(str, rank)) for rank in ranks),
    }


def cores_for(index: int, threads: int, available: tuple[int, ...]) -> tuple[int, ...]:
    """The cores of the `index`-th worker on a machine: neighbours take different ones."""
    start = index * threads
    return tuple(available[(start + i) % len(available)] for i in range(threads))
