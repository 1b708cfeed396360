"""A small Llama with random weights and a wide KV cache, for measuring transfers.

The demo model has 8 KiB of KV per token (float32): moving that takes less than noticing it has
moved. This one has 64 KiB, in as many layers as a model of a billion parameters has. The file
of weights is empty: engines make them up (`DUMMY`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from deploy.model import DEMO_MODEL

LAYERS, KV_HEADS, HEAD_TOKENS, BYTES = 16, 8, 64, 4
KV_BYTES_PER_TOKEN = LAYERS * KV_HEADS * HEAD_TOKENS * 2 * BYTES
KV_BYTES_PER_TOKEN_8B = 32 * 8 * 128 * 2 * 2
DUMMY = {"load_format": "dummy"}
"""For `engine.extra_args`."""
_NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_WIDE: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": KV_HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_TOKENS,
    "torch_dtype": "float32",
}
_LLAMA_8B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rope_theta": 500000.0,
    "torch_dtype": "bfloat16",
}


def make(folder: Path, max_len_tokens: int) -> Path:
    """Write the model into a folder, with the demo model's tokenizer."""
    return _write(folder, {**_LLAMA, **_WIDE, "max_position_embeddings": max_len_tokens})


def make_8b(folder: Path, max_len_tokens: int) -> Path:
    """The shape of Llama 3.1 8B, for GPUs."""
    return _write(folder, {**_LLAMA, **_LLAMA_8B, "max_position_embeddings": max_len_tokens})


def _write(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(_NO_WEIGHTS)
    for name in _TOKENIZER:
        shutil.copy(DEMO_MODEL / name, folder / name)
    return folder
