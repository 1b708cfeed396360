"""The size of a KV block, reckoned from the model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baton.errors import StartupError, StartupFault
from baton.settings import Settings
from engine.kv_block import block_pieces
from engine.model_folder import read_model_folder
from tests.unit.engine.folders import make_folder


def pieces(
    tmp_path: Path, device: str = "cpu", dtype: str = "auto", engine: Any = None, **config: Any
) -> tuple[int, ...]:
    settings = Settings.model_validate({"engine": engine or {}})
    model = read_model_folder(make_folder(tmp_path / "model", **config))
    return block_pieces(settings, model, device, dtype)


# 2 layers, 2 KV heads of size 16, K and V, bfloat16: 128 bytes per token and layer.
@pytest.mark.parametrize(
    ("device", "dtype", "engine", "wanted"),
    [
        ("cpu", "auto", {}, 128 * 128),
        ("cpu", "float32", {}, 128 * 256),
        ("cuda", "auto", {}, 16 * 128),
        ("cuda", "auto", {"block_size_tokens": 32}, 32 * 128),
        ("cuda", "auto", {"extra_args": {"block_size": 64}}, 64 * 128),
        ("cuda", "auto", {"tensor_parallel_size": 2}, 16 * 64),
        ("cuda", "auto", {"extra_args": {"kv_cache_dtype": "fp8_e4m3"}}, 16 * 64),
        ("cuda", "float32", {"extra_args": {"kv_cache_dtype": "bfloat16"}}, 16 * 128),
    ],
)
def test_a_piece_per_layer(
    tmp_path: Path, device: str, dtype: str, engine: Any, wanted: int
) -> None:
    assert pieces(tmp_path, device, dtype, engine) == (wanted, wanted)


@pytest.mark.parametrize("config", [{"num_hidden_layers": None}, {"dtype": "int4"}])
def test_a_model_that_does_not_say(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(StartupError) as caught:
        pieces(tmp_path, **config)
    assert caught.value.fault is StartupFault.MODEL_INVALID
    assert "--size" in caught.value.hint
