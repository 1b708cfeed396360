"""A small Llama with random weights and a wide KV cache, for measuring transfers.

The demo model has 8 KiB of KV per token (float32): moving that takes less than noticing it has
moved. This one has 128 KiB, as an 8-billion-parameter model has in bfloat16.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.model import DEMO_MODEL

LAYERS, KV_HEADS, HEAD_TOKENS, BYTES = 8, 32, 64, 4
KV_BYTES_PER_TOKEN = LAYERS * KV_HEADS * HEAD_TOKENS * 2 * BYTES
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make(folder: Path, max_len_tokens: int) -> Path:
    """Write the model into a folder, with the demo model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=KV_HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_TOKENS,
        max_position_embeddings=max_len_tokens,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in _TOKENIZER:
        shutil.copy(DEMO_MODEL / name, folder / name)
    return folder
