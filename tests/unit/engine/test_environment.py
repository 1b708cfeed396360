"""An engine's environment, and its share of the cores."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.environment import cores_for, engine_environment


def test_a_cpu_engine_is_bound_to_its_cores() -> None:
    env = engine_environment("cpu", 2, (4, 5), "10.0.0.1")
    assert env["OMP_NUM_THREADS"] == "2"
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "4,5"
    assert env["VLLM_HOST_IP"] == "10.0.0.1"


def test_each_rank_of_a_cpu_engine_has_its_cores() -> None:
    bound = engine_environment("cpu", 2, (4, 5, 6, 7), "h")["VLLM_CPU_OMP_THREADS_BIND"]
    assert bound == "4,5|6,7"
    assert engine_environment("cpu", 1, (4, 4), "h")["VLLM_CPU_OMP_THREADS_BIND"] == "4|4"


def test_a_gpu_engine_is_bound_to_none() -> None:
    env = engine_environment("cuda", 2, (4, 5), "h")
    assert not any("OMP" in name for name in env)


def test_where_kernels_cannot_be_compiled_none_has_to_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "VLLM_USE_FLASHINFER_SAMPLER"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.delenv(name, raising=False)
    assert engine_environment("cuda", 1, (0,), "h")[name] == "0"
    assert name not in engine_environment("cpu", 1, (0,), "h")
    monkeypatch.setenv(name, "1")
    assert engine_environment("cuda", 1, (0,), "h")[name] == "1"
    monkeypatch.delenv(name)
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.touch(0o755)
    assert name not in engine_environment("cuda", 1, (0,), "h")


def test_nothing_is_looked_up_or_reported_outside() -> None:
    for device in ("cpu", "cuda"):
        env = engine_environment(device, 1, (0,), "h")
        assert env["HF_HUB_OFFLINE"] == env["VLLM_NO_USAGE_STATS"] == "1"


def test_neighbours_take_different_cores_as_long_as_there_are_some() -> None:
    available = (2, 3, 6, 7)
    assert [cores_for(i, 2, available) for i in range(3)] == [(2, 3), (6, 7), (2, 3)]
    assert cores_for(0, 3, (5,)) == (5, 5, 5)


@given(
    st.integers(0, 50),
    st.integers(1, 9),
    st.lists(st.integers(0, 255), min_size=1, max_size=16, unique=True),
)
def test_every_thread_has_an_available_core(index: int, threads: int, available: list[int]) -> None:
    cores = cores_for(index, threads, tuple(available))
    assert len(cores) == threads
    assert set(cores) <= set(available)
    assert len(set(cores)) == min(threads, len(available))
