"""Names and sizes of what is measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baton.settings import Settings
from deploy.profiling.machine import device_name, engine_limits, identity


def test_the_device_names_itself(tmp_path: Path) -> None:
    gpu = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t NVIDIA H200\nIRQ: 1\n")
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmodel name\t: A CPU @ 2 GHz\n")
    assert device_name("cuda", tmp_path) == "NVIDIA H200"
    assert device_name("cpu", tmp_path) == "A CPU @ 2 GHz"
    assert device_name("cuda", tmp_path / "nowhere") == "NVIDIA GPU"
    assert device_name("cpu", tmp_path / "nowhere") == "an unknown device"


def test_measurements_of_other_engines_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = SimpleNamespace(digest="d", device="cpu")
    settings = Settings.model_validate({})

    def mine(settings: Settings = settings) -> dict[str, Any]:
        return identity(settings, found, quick=True)

    first = mine()
    assert mine() == first
    assert mine(Settings.model_validate({"kv_transfer": {"stream": "chunk"}})) != first
    assert mine(Settings.model_validate({"model": {"enforce_eager": True}})) != first
    for name, value in (("os.sched_getaffinity", {0, 99}), ("platform.node", "other")):
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(name, lambda *_, value=value: value)
            assert mine() != first
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert mine() != first


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_planner_is_told_what_one_engine_holds(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As the engine settled on them, whatever was set.
    steps = {"max_running": 64, "max_batched_tokens": 2048}
    facts: Any = SimpleNamespace(kv_blocks=100, block_size_tokens=16, device=device, **steps)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(9)))
    engine = {"tensor_parallel_size": 2, "cpu_threads": 2}
    told = engine_limits(Settings.model_validate({"engine": engine}), facts)
    cores = {"cores": 2} if device == "cpu" else {}
    assert told == {"gpus": 2, "kv_tokens": 1600} | steps | cores
