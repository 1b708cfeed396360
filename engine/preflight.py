"""What can be refused before anything heavy starts, and the digest that peers must share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from baton.errors import StartupError, StartupFault
from baton.ids import config_digest
from baton.settings import process_environ
from baton.settings.model import Settings
from baton.settings.router import RouterSettings
from engine.device import (
    check_vllm,
    choose_device,
    choose_dtype,
    cpu_has_bf16,
    gpu_present,
    installed_vllm,
)
from engine.device_checks import Allocation, allocation, check_shareable
from engine.model_folder import ModelFolder, read_model_folder

GIB = 1024**3
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Resident memory of one engine and the process that owns it, without weights and KV: 2.3 GiB
# measured with the demo model on CPU, of which libraries are nearly all.
WORKER_BASE_BYTES = int(2.3 * GIB)


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts about this machine that decide whether an engine can start."""

    gpu: bool
    bf16: bool
    """Whether its CPU has instructions for bfloat16."""
    available_bytes: int
    distribution: tuple[str, str]
    """Name and version of the installed vLLM."""
    allocation: Allocation = field(default_factory=Allocation)


@dataclass(frozen=True, slots=True)
class Preflight:
    """A start that nothing speaks against so far."""

    model: ModelFolder
    device: str
    dtype: str
    """What engines are told: "auto" where the model's own format is used."""
    vllm_version: str
    digest: str


def this_machine(meminfo: Path = Path("/proc/meminfo")) -> Machine:
    """Reads the machine. Raises StartupError VLLM_UNSUPPORTED when vLLM is not installed."""
    gpu, bf16, memory = gpu_present(), cpu_has_bf16(), _available_bytes(meminfo)
    return Machine(gpu, bf16, memory, installed_vllm(), allocation(process_environ()))


def check(
    settings: Settings, model_path: Path, machine: Machine, *, here: bool = True
) -> Preflight:
    """Raises StartupError for what is certain to fail: version, device, memory that cannot be
    shared, model, room for KV.

    `here`: whether engines run on this machine, which then has to have their device.
    """
    version = check_vllm(machine.distribution)
    build = machine.distribution[0]
    device = choose_device(settings.engine.device, machine.gpu, build, here=here)
    check_shareable(settings, device, machine.allocation)
    model = read_model_folder(model_path)
    dtype = choose_dtype(settings.model.dtype, model.dtype, device, bf16=machine.bf16)
    _check_kind(model)
    _check_length(settings, model)
    if device == "cpu":
        _check_kv(settings, model, dtype)
    digest = _digest(settings, model, (device, dtype, version))
    return Preflight(model, device, dtype, version, digest)


def check_memory(settings: Settings, found: Preflight, available_bytes: int) -> None:
    """Raises StartupError MEMORY_TOO_SMALL when this machine, which is to run all workers and runs
    none yet, has too little memory for them. GPUs are left to the engines themselves."""
    if found.device != "cpu":
        return
    model = found.model
    workers = settings.prefill.workers + settings.decode.workers
    each = WORKER_BASE_BYTES + model.weight_bytes + int(settings.engine.kv_cache_gib * GIB)
    if workers * each > available_bytes:
        raise StartupError(
            StartupFault.MEMORY_TOO_SMALL,
            f"{workers} workers need about {workers * each / GIB:.1f} GiB "
            f"({model.weight_bytes / GIB:.1f} weights and {settings.engine.kv_cache_gib:g} KV "
            f"each), and {available_bytes / GIB:.1f} GiB are free",
        )


def _check_kind(model: ModelFolder) -> None:
    if model.multimodal:
        raise StartupError(
            StartupFault.MODEL_INVALID,
            f"{model.architecture} takes images or audio, which Baton does not serve yet",
            hint="Use a text model.",
        )


def _check_length(settings: Settings, model: ModelFolder) -> None:
    wanted = settings.model.max_model_len_tokens
    if wanted is not None and model.max_len_tokens is not None and wanted > model.max_len_tokens:
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            f"model.max_model_len_tokens is {wanted}; the model ends at {model.max_len_tokens}",
        )


def _check_kv(settings: Settings, model: ModelFolder, dtype: str) -> None:
    length = settings.model.max_model_len_tokens or model.max_len_tokens
    width = _BYTES.get(model.dtype or "" if dtype == "auto" else dtype)
    if length is None or width is None or model.kv_values_per_token is None:
        return
    needed, given = length * model.kv_values_per_token * width, settings.engine.kv_cache_gib * GIB
    if needed > given:
        raise StartupError(
            StartupFault.MEMORY_TOO_SMALL,
            f"one request of {length} tokens needs {needed / GIB:.2f} GiB of KV cache, and "
            f"engine.kv_cache_gib is {settings.engine.kv_cache_gib:g}",
            hint="Raise engine.kv_cache_gib or lower model.max_model_len_tokens.",
        )


def _digest(settings: Settings, model: ModelFolder, engine: tuple[str, str, str]) -> str:
    device, dtype, version = engine
    return config_digest(
        {
            "model": model.fingerprint,
            "dtype": dtype,
            "max_model_len_tokens": settings.model.max_model_len_tokens,
            "block_size_tokens": settings.engine.block_size_tokens,
            "tensor_parallel_size": settings.engine.tensor_parallel_size,
            "extra_args": {k: repr(v) for k, v in settings.engine.extra_args.items()},
            "connector": settings.kv_transfer.connector,
            "device": device,
            "vllm": version,
            **_direct(settings.router),
        }
    )


def _direct(router: RouterSettings) -> dict[str, object]:
    """Where workers serve clients is settled when they start."""
    if not router.direct:
        return {}
    return {"direct_host": router.direct_host, "direct_port": router.direct_port}


def _available_bytes(meminfo: Path) -> int:
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
