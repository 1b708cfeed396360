"""GPU memory that peers could not reach is refused before anything is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baton.errors import StartupError, StartupFault
from baton.settings import Settings
from engine.device_checks import Allocation, allocation, check_shareable

EXPANDABLE = Allocation("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def settings(connector: str = "baton", **extra: Any) -> Settings:
    return Settings.model_validate(
        {"kv_transfer": {"connector": connector}, "engine": {"extra_args": extra}}
    )


PLAIN = Allocation()


def refusal(found: Allocation = PLAIN, **extra: Any) -> StartupError:
    with pytest.raises(StartupError) as caught:
        check_shareable(settings(**extra), "cuda", found)
    assert caught.value.fault is StartupFault.SETTINGS_INVALID
    return caught.value


@pytest.mark.parametrize(
    "conf",
    [
        "expandable_segments:True",
        "max_split_size_mb:512,expandable_segments:True",
        "expandable_segments: true , max_split_size_mb:512",
        "expandable_segments:1",
    ],
)
def test_expandable_segments_are_refused(conf: str) -> None:
    error = refusal(Allocation("PYTORCH_CUDA_ALLOC_CONF", conf))
    assert "PYTORCH_CUDA_ALLOC_CONF" in error.message
    assert "CUDA IPC" in error.message
    assert "expandable_segments:False" in error.hint


def test_the_hint_keeps_the_rest_of_the_configuration() -> None:
    conf = "max_split_size_mb:512,expandable_segments:True,roundup_power2_divisions:4"
    wanted = "'max_split_size_mb:512,roundup_power2_divisions:4,expandable_segments:False'"
    assert wanted in refusal(Allocation("PYTORCH_ALLOC_CONF", conf)).hint


@pytest.mark.parametrize(
    "conf", ["", "expandable_segments:False", "max_split_size_mb:512", "expandable_segments", ":"]
)
def test_other_configurations_pass(conf: str) -> None:
    check_shareable(settings(), "cuda", Allocation("PYTORCH_ALLOC_CONF", conf))


def test_sleep_mode_is_refused_also_with_fabric_handles() -> None:
    assert "enable_sleep_mode" in refusal(enable_sleep_mode=True).message
    fabric = Allocation(fabric=True)
    assert "enable_sleep_mode" in refusal(fabric, enable_sleep_mode=True).message


def test_the_cumem_allocator_needs_fabric_handles() -> None:
    error = refusal(enable_cumem_allocator=True)
    assert "enable_cumem_allocator" in error.message
    assert "vllm-nixl-pull" in error.hint
    check_shareable(settings(enable_cumem_allocator=True), "cuda", Allocation(fabric=True))
    check_shareable(settings(enable_cumem_allocator=False), "cuda", Allocation())


@pytest.mark.parametrize(("connector", "device"), [("baton", "cpu"), ("vllm-nixl-pull", "cuda")])
def test_only_gpu_memory_of_baton_s_connector_is_looked_at(connector: str, device: str) -> None:
    check_shareable(settings(connector, enable_sleep_mode=True), device, EXPANDABLE)


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({}, ""),
        ({"PYTORCH_CUDA_ALLOC_CONF": "a:1"}, "PYTORCH_CUDA_ALLOC_CONF"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "a:1", "PYTORCH_ALLOC_CONF": "b:2"}, "PYTORCH_ALLOC_CONF"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "a:1", "PYTORCH_ALLOC_CONF": ""}, "PYTORCH_CUDA_ALLOC_CONF"),
    ],
)
def test_the_variable_that_counts(environ: dict[str, str], variable: str, tmp_path: Path) -> None:
    found = allocation(environ, tmp_path)
    assert (found.variable, found.conf) == (variable, environ.get(variable, ""))
    assert not found.fabric


def test_fabric_handles_are_told_by_their_channels(tmp_path: Path) -> None:
    channels = tmp_path / "dev/nvidia-caps-imex-channels"
    channels.mkdir(parents=True)
    assert not allocation({}, tmp_path).fabric
    (channels / "channel0").touch()
    assert allocation({}, tmp_path).fabric
