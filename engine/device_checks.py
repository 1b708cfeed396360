"""Whether other processes can reach the GPU memory that an engine would keep its KV in.

Memory of another process on the same host goes over CUDA IPC, which shares what `cudaMalloc` made.
PyTorch's expandable segments and vLLM's cumem allocator take memory from CUDA's virtual memory
management instead. The UCX that comes with NIXL shares such memory only where the driver gives
out fabric handles; elsewhere it silently moves it through the CPU: 0.5 GB/s instead of 570 and
more were measured on one H200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from baton.errors import StartupError, StartupFault
from baton.settings.model import Settings

# The first that is set is the one that PyTorch reads.
_ALLOC_CONF = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
_EXPANDABLE = "expandable_segments"
_ALTERNATIVE = "or set kv_transfer.connector to vllm-nixl-pull and accept the slow path"


@dataclass(frozen=True, slots=True)
class Allocation:
    """What decides how an engine on this machine allocates GPU memory."""

    variable: str = ""
    """The environment variable that PyTorch's allocator reads here; empty where none is set."""
    conf: str = ""
    fabric: bool = False
    """Whether the driver gives out fabric handles (multi-node NVLink)."""

    @property
    def expandable_segments(self) -> bool:
        fields = (field.partition(":") for field in self.conf.split(","))
        values = [value for name, _, value in fields if name.strip() == _EXPANDABLE]
        return bool(values) and values[-1].strip().lower() in ("true", "1")


def allocation(environ: Mapping[str, str], root: Path = Path("/")) -> Allocation:
    """Reads the environment of the process that will own the engine, and the machine."""
    variable = next((name for name in _ALLOC_CONF if environ.get(name)), "")
    channels = root / "dev/nvidia-caps-imex-channels"
    return Allocation(variable, environ.get(variable, ""), any(channels.glob("channel*")))


def check_shareable(settings: Settings, device: str, found: Allocation) -> None:
    """Raises StartupError SETTINGS_INVALID where Baton's connector could not share GPU memory."""
    if device != "cuda" or settings.kv_transfer.connector != "baton":
        return
    if found.expandable_segments:
        raise _refusal(
            f"{found.variable} is {found.conf!r}: CUDA IPC cannot share memory of expandable "
            "segments, and NIXL's registrations of it can become stale",
            f"Unset {found.variable}, or set it to {_without(found.conf)!r}.",
        )
    extra = settings.engine.extra_args
    if extra.get("enable_sleep_mode"):
        raise _refusal(
            "engine.extra_args.enable_sleep_mode: an engine that sleeps unmaps memory that its "
            "peers write into",
            f"Remove it, {_ALTERNATIVE}.",
        )
    if extra.get("enable_cumem_allocator") and not found.fabric:
        raise _refusal(
            "engine.extra_args.enable_cumem_allocator: CUDA IPC cannot share memory of the cumem "
            "allocator on a machine without fabric handles (no IMEX channel)",
            f"Remove it, {_ALTERNATIVE}.",
        )


def _without(conf: str) -> str:
    fields = [field.strip() for field in conf.split(",")]
    kept = [field for field in fields if field.partition(":")[0].strip() != _EXPANDABLE]
    return ",".join([*kept, f"{_EXPANDABLE}:False"])


def _refusal(message: str, hint: str) -> StartupError:
    return StartupError(StartupFault.SETTINGS_INVALID, message, hint=hint)
