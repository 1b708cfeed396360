"""What a model folder says is read, and what is wrong with it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton.errors import StartupError, StartupFault
from engine.model_folder import read_model_folder
from tests.unit.engine.folders import CONFIG, make_folder


def test_a_folder_is_read(tmp_path: Path) -> None:
    model = read_model_folder(make_folder(tmp_path))
    assert model.architecture == "LlamaForCausalLM"
    assert model.max_len_tokens == 1024
    assert model.weight_bytes == 100
    assert model.dtype == "bfloat16"
    assert model.kv_values_per_token == 2 * 2 * 16 * 2
    assert not model.multimodal


def test_an_explicit_head_size_wins_and_older_names_are_known(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, head_dim=32, dtype=None, torch_dtype="float16")
    model = read_model_folder(folder)
    assert model.kv_values_per_token == 2 * 2 * 32 * 2
    assert model.dtype == "float16"


def test_without_key_value_heads_all_heads_count(tmp_path: Path) -> None:
    model = read_model_folder(make_folder(tmp_path, num_key_value_heads=None))
    assert model.kv_values_per_token == 2 * 4 * 16 * 2


def test_unusual_attention_is_not_guessed(tmp_path: Path) -> None:
    assert read_model_folder(make_folder(tmp_path, hidden_size=None)).kv_values_per_token is None


def test_a_nested_text_configuration_is_found(tmp_path: Path) -> None:
    text = {k: v for k, v in CONFIG.items() if k != "architectures"}
    folder = make_folder(tmp_path, text_config={**text, "max_position_embeddings": 77})
    assert read_model_folder(folder).max_len_tokens == 77


@pytest.mark.parametrize("key", ["vision_config", "audio_config", "mm_vision_tower"])
def test_multimodal_models_are_told(tmp_path: Path, key: str) -> None:
    assert read_model_folder(make_folder(tmp_path, **{key: {}})).multimodal


def test_all_shards_count(tmp_path: Path) -> None:
    (make_folder(tmp_path) / "model-2.safetensors").write_bytes(b"\0" * 11)
    assert read_model_folder(tmp_path).weight_bytes == 111


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StartupError) as caught:
        read_model_folder(tmp_path / "nowhere")
    assert caught.value.fault is StartupFault.MODEL_MISSING


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", "{", "not JSON"),
        ("config.json", "[]", "does not hold an object"),
        ("config.json", "{}", "names no architecture"),
        ("config.json", '{"architectures": []}', "names no architecture"),
        ("tokenizer.json", None, "no tokenizer"),
        ("model.safetensors", None, "no weights"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str | None, why: str) -> None:
    file = make_folder(tmp_path) / name
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(StartupError, match=why) as caught:
        read_model_folder(tmp_path)
    assert caught.value.fault is StartupFault.MODEL_INVALID


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.touch()
    with pytest.raises(StartupError, match="a file, not a folder"):
        read_model_folder(file)


def test_a_configuration_that_is_no_text_is_invalid(tmp_path: Path) -> None:
    (make_folder(tmp_path) / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(StartupError) as caught:
        read_model_folder(tmp_path)
    assert caught.value.fault is StartupFault.MODEL_INVALID


@pytest.mark.parametrize("text", ["null", '"text"', "3", "[]"])
def test_a_text_configuration_of_another_kind_is_invalid(tmp_path: Path, text: str) -> None:
    folder = make_folder(tmp_path)
    config = f'{{"architectures": ["A"], "text_config": {text}}}'
    (folder / "config.json").write_text(config)
    with pytest.raises(StartupError) as caught:
        read_model_folder(folder)
    assert caught.value.fault is StartupFault.MODEL_INVALID


def test_the_fingerprint_is_of_content_not_place(tmp_path: Path) -> None:
    one, two = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
    assert read_model_folder(one).fingerprint == read_model_folder(two).fingerprint


def test_the_fingerprint_sees_configuration_tokenizer_and_weights(tmp_path: Path) -> None:
    before = read_model_folder(make_folder(tmp_path)).fingerprint
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    tokenizer = read_model_folder(tmp_path).fingerprint
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 101)
    weights = read_model_folder(tmp_path).fingerprint
    (tmp_path / "generation_config.json").write_text("{}")
    assert len({before, tokenizer, weights, read_model_folder(tmp_path).fingerprint}) == 4
