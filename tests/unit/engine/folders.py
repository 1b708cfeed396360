"""Model folders made of nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 1024,
    "dtype": "bfloat16",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
}


def make_folder(path: Path, weights: int = 100, **config: Any) -> Path:
    """A folder with a configuration, a tokenizer and weights of that many bytes."""
    path.mkdir(exist_ok=True)
    merged = {key: value for key, value in {**CONFIG, **config}.items() if value is not None}
    (path / "config.json").write_text(json.dumps(merged))
    (path / "tokenizer.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"\0" * weights)
    return path
