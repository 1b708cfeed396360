"""What a model folder says about itself, read without importing a framework."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton.errors import StartupError, StartupFault

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json")
_IDENTITY = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_MULTIMODAL_KEYS = ("vision_config", "audio_config", "vision_tower", "mm_vision_tower")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model in the Hugging Face layout."""

    path: Path
    architecture: str
    max_len_tokens: int | None
    weight_bytes: int
    dtype: str | None
    """The number format of its weights, as its configuration says."""
    kv_values_per_token: int | None
    """Numbers in the KV of one token, over all layers and both K and V; None where the
    configuration does not say (unusual attention)."""
    multimodal: bool
    fingerprint: str
    """Equal for equal configuration, tokenizer and weight sizes."""
    layers: int | None = None
    """Layers with KV; None where the configuration does not say."""


def read_model_folder(path: Path) -> ModelFolder:
    """Raises StartupError MODEL_MISSING or MODEL_INVALID, naming what is wrong."""
    config = _read_config(path)
    weights = _weights(path)
    if not any((path / name).exists() for name in _TOKENIZERS):
        raise _invalid(path, "no tokenizer file (tokenizer.json or tokenizer.model)")
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        raise _invalid(path, "text_config in config.json is not an object")
    return ModelFolder(
        path=path,
        architecture=_architecture(path, config),
        max_len_tokens=text.get("max_position_embeddings"),
        weight_bytes=sum(f.stat().st_size for f in weights),
        dtype=text.get("dtype") or text.get("torch_dtype"),
        kv_values_per_token=_kv_values_per_token(text),
        multimodal=any(key in config for key in _MULTIMODAL_KEYS),
        fingerprint=_fingerprint(path, weights),
        layers=text.get("num_hidden_layers"),
    )


def _read_config(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise StartupError(StartupFault.MODEL_MISSING, f"there is no model folder at {path}")
    if not path.is_dir():
        raise _invalid(path, "it is a file, not a folder")
    if not (path / "config.json").exists():
        raise _invalid(path, "no config.json")
    try:
        config = json.loads((path / "config.json").read_text())
    except ValueError as error:
        raise _invalid(path, f"config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise _invalid(path, "config.json does not hold an object")
    return config


def _weights(path: Path) -> list[Path]:
    for pattern in _WEIGHTS:
        if found := sorted(path.glob(pattern)):
            return found
    raise _invalid(path, "no weights (*.safetensors)")


def _architecture(path: Path, config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise _invalid(path, "config.json names no architecture")
    return str(names[0])


def _kv_values_per_token(text: Mapping[str, Any]) -> int | None:
    try:
        heads = text.get("num_key_value_heads") or text["num_attention_heads"]
        size = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
        return int(text["num_hidden_layers"] * heads * size * 2)
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def _fingerprint(path: Path, weights: list[Path]) -> str:
    digest = hashlib.sha256()
    for name in _IDENTITY:
        if (path / name).exists():
            digest.update(name.encode() + (path / name).read_bytes())
    for file in weights:
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
    return digest.hexdigest()[:16]


def _invalid(path: Path, why: str) -> StartupError:
    return StartupError(StartupFault.MODEL_INVALID, f"{path} is not a model folder: {why}")
