"""What is measured on, and what: the names and sizes that a profile tells."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from baton.settings import Settings, process_environ
from engine.kv_block import block_pieces, block_tokens
from engine.model_folder import ModelFolder
from engine.ports import EngineFacts
from engine.preflight import Preflight


def device_name(device: str, root: Path = Path("/")) -> str:
    """The GPU's or the CPU's own name, found without asking a driver's library."""
    if device == "cuda":
        files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
        return _field(files[0], "Model") if files else "NVIDIA GPU"
    return _field(root / "proc/cpuinfo", "model name")


def kv_bytes_per_token(settings: Settings, model: ModelFolder, facts: EngineFacts) -> int:
    """Over all layers and devices. Raises StartupError where the configuration does not say."""
    pieces = block_pieces(settings, model, facts.device, facts.dtype)
    size = settings.engine.tensor_parallel_size
    return sum(pieces) * size // block_tokens(settings.engine, facts.device)


def model_facts(settings: Settings, model: ModelFolder, facts: EngineFacts) -> dict[str, Any]:
    """The model in a profile."""
    return {
        "name": model.path.name,
        "layers": model.layers,
        "dtype": facts.dtype,
        "weight_bytes": model.weight_bytes,
        "kv_bytes_per_token": kv_bytes_per_token(settings, model, facts),
        "tensor_parallel_size": settings.engine.tensor_parallel_size,
    }


def engine_limits(settings: Settings, facts: EngineFacts) -> dict[str, int]:
    """What a planner has to know of one engine beside its times."""
    size = settings.engine.tensor_parallel_size
    limits = {
        "gpus": size,
        "kv_tokens": facts.kv_blocks * facts.block_size_tokens,
        "max_running": facts.max_running,
        "max_batched_tokens": facts.max_batched_tokens,
    }
    if facts.device == "cpu":
        taken = settings.engine.cpu_threads * size
        limits["cores"] = max(len(os.sched_getaffinity(0)) // taken, 1)
    return limits


def about(settings: Settings, model: ModelFolder, facts: EngineFacts) -> str:
    """One sentence for whoever reads the file later."""
    engine, name = settings.engine, device_name(facts.device)
    cpu = f", {engine.cpu_threads} thread(s)" if facts.device == "cpu" else ""
    return (
        f"Measured by `baton profile` on {name}{cpu}; {model.path.name} in {facts.dtype}, "
        f"tensor parallel {engine.tensor_parallel_size}, vLLM {facts.vllm_version}, connector "
        f"{settings.kv_transfer.connector}, prefix caching on. Times are wall clock seconds from "
        "handing a request to the engine process until its last token came back."
    )


def identity(settings: Settings, found: Preflight, **wanted: object) -> dict[str, Any]:
    """What has to be the same for measurements of two runs to stand in one profile."""
    return {
        "digest": found.digest,
        "device": device_name(found.device),
        "visible": process_environ().get("CUDA_VISIBLE_DEVICES"),
        "host": platform.node(),
        "cores": sorted(os.sched_getaffinity(0)),
        "eager": settings.model.enforce_eager,
        "engine": settings.engine.model_dump(mode="json"),
        "kv_transfer": settings.kv_transfer.model_dump(mode="json"),
        **wanted,
    }


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    values = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(values, "an unknown device")
