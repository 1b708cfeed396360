"""Prompts cut from this repository's own text, in the demo model's tokens."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from deploy.model import DEMO_MODEL

ROOT = Path(__file__).parents[2]
BLOCK = 128


@cache
def text_tokens() -> tuple[int, ...]:
    """Some text and some code."""
    files = [ROOT / "LICENSE", *sorted((ROOT / "baton").glob("*.py"))]
    text = "\n".join(path.read_text() for path in files)
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))
    return tuple(tokenizer.encode(text).ids)


def prompt(length: int, seed: int) -> tuple[int, ...]:
    """A slice of that text; the same for the same seed."""
    tokens = text_tokens()
    start = random.Random(seed).randrange(len(tokens) - length)
    return tokens[start : start + length]


def varied_lengths() -> list[int]:
    """40 lengths from 1 to 6,000: the edges of KV blocks, and what lies between."""
    edges = [1, 2, 3, 16, 127, 128, 129, 130, 255, 256, 257, 383, 384, 385, 511, 512, 513]
    chance = random.Random(7)
    between = [chance.randrange(4, 900) for _ in range(17)]
    return [*edges, *between, 1100, 1400, 2047, 2049, 6000, 6000]
