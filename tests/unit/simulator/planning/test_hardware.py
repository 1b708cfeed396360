"""Engines from profiles."""

import json
from pathlib import Path

import pytest

from simulator.engine_model.profile import ProfileError
from simulator.planning.hardware import load_hardware

PROFILE = {
    "model": {"kv_bytes_per_token": 1000},
    "prefill": [{"tokens": n, "seconds": [0.01 + n * 1e-4]} for n in (64, 512, 2048, 4096)],
    "decode_step": [
        {"batch": b, "context_tokens": 512, "seconds_per_step": 0.005 + b * 1e-4}
        for b in (1, 8, 32)
    ],
}


def written(folder: Path, **more: object) -> Path:
    path = folder / "tp2.json"
    path.write_text(json.dumps(PROFILE | more))
    return path


def test_memory_and_gpus_are_of_the_file(tmp_path: Path) -> None:
    engine = {"tensor_parallel_size": 2, "kv_tokens": 50_000, "max_num_seqs": 32}
    hardware, errors = load_hardware(written(tmp_path, engine=engine))
    assert (hardware.name, hardware.gpus) == ("tp2", 2)
    assert (hardware.engine.kv_tokens, hardware.engine.max_running) == (50_000, 32)
    assert max(error.worst for error in errors) < 0.05


def test_what_is_said_beside_it_goes_first(tmp_path: Path) -> None:
    told = {"gpus": 4, "kv_tokens": 60_000}
    hardware, _ = load_hardware(written(tmp_path, engine={"kv_tokens": 50_000}), told)
    assert (hardware.gpus, hardware.engine.kv_tokens) == (4, 60_000)


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        ([], "engine has to be an object"),
        ({"gpus": 0}, "engine.gpus has to be a whole number"),
        ({"kv_tokens": "many"}, "engine.kv_tokens has to be a whole number"),
        ({"max_batched_tokens": 8}, "max_running has to leave tokens"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, engine: object, why: str) -> None:
    with pytest.raises(ProfileError, match=why):
        load_hardware(written(tmp_path, engine=engine))


def test_the_network_is_told_and_not_guessed_from_one_machine(tmp_path: Path) -> None:
    rows = [{"op": "WRITE", "block_bytes": 65536, "GBps": 1.0}]
    hardware, _ = load_hardware(written(tmp_path, transfer=rows))
    assert hardware.network.bytes_per_s == 50e9
    hardware, _ = load_hardware(written(tmp_path), {"network_gbit": 100})
    assert hardware.network.bytes_per_s == 12.5e9
