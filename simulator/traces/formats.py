"""Readers for the public traces. Each takes a path and gives a `Trace`, or raises `TraceError`.

Formats, as their publishers describe them:
* Mooncake (kvcache-ai/Mooncake, FAST'25): JSON Lines; `timestamp` in milliseconds, `hash_ids` of
  512-token blocks that stand for the whole prefix.
* Azure (Azure/AzurePublicDataset, LLM inference 2023 and 2024): CSV; wall clock times, the 2024
  edition with a zone; no prefixes.
* BurstGPT (HPMLL/BurstGPT): CSV; seconds; answers of 0 tokens are failures; later releases add the
  conversation's id, but no prefixes.
* Qwen Bailian (alibaba-edu/qwen-bailian-usagetraces-anon): JSON Lines; seconds, `hash_ids` of
  16-token blocks that stand for the block alone, `parent_chat_id` -1 for the first turn.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

from simulator.traces.lines import Fields, Row, collect, csv_lines, json_lines
from simulator.traces.request import BLOCK_TOKENS, Trace, blocks_of

BAILIAN_BLOCK_TOKENS = 16
_BAILIAN_GROUP = BLOCK_TOKENS // BAILIAN_BLOCK_TOKENS


def read_mooncake(path: Path, most: int | None = None) -> Trace:
    """A Mooncake trace, or its first `most` requests."""
    return collect(path, json_lines(path), _mooncake, most)


def read_azure(path: Path, most: int | None = None) -> Trace:
    """An Azure LLM inference trace of 2023 or 2024, or its first `most` requests."""
    columns = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
    return collect(path, csv_lines(path, columns), _azure, most)


def read_burstgpt(path: Path, most: int | None = None) -> Trace:
    """A BurstGPT trace, or its first `most` requests that did not fail."""
    columns = ("Timestamp", "Request tokens", "Response tokens")
    return collect(path, csv_lines(path, columns), _burstgpt, most)


def read_bailian(path: Path, most: int | None = None) -> Trace:
    """A Qwen Bailian trace, or its first `most` requests."""
    return collect(path, json_lines(path), _Bailian(), most)


READERS: dict[str, Callable[[Path, int | None], Trace]] = {
    "mooncake": read_mooncake,
    "azure": read_azure,
    "burstgpt": read_burstgpt,
    "bailian": read_bailian,
}


def _mooncake(fields: Fields) -> Row:
    return Row(
        fields.line,
        fields.number("timestamp") / 1000,
        fields.tokens("input_length"),
        fields.tokens("output_length"),
        fields.keys("hash_ids"),
    )


def _azure(fields: Fields) -> Row:
    return Row(
        fields.line,
        _wall_clock_s(fields),
        fields.tokens("ContextTokens"),
        fields.tokens("GeneratedTokens"),
    )


def _wall_clock_s(fields: Fields) -> float:
    text = fields.text("TIMESTAMP")
    head, dot, tail = text.partition(".")
    # 2023 writes seven digits of a second, one more than datetime reads.
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    zone = tail[len(digits) :] if dot else ""
    try:
        moment = datetime.fromisoformat(head + zone)
    except ValueError:
        raise fields.error(f"TIMESTAMP is not a time: {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() + (float(f"0.{digits}") if digits else 0.0)


def _burstgpt(fields: Fields) -> Row:
    return Row(
        fields.line,
        fields.number("Timestamp"),
        fields.tokens("Request tokens"),
        fields.tokens("Response tokens"),
        session=fields.optional("Session ID"),
        tenant=fields.optional("Model"),
    )


class _Bailian:
    """Follows each chat to its first turn, which names the session."""

    def __init__(self) -> None:
        self._root: dict[str, str] = {}

    def __call__(self, fields: Fields) -> Row:
        chat, parent = fields.text("chat_id"), fields.optional("parent_chat_id") or "-1"
        # A parent from before the recording is a name as good as any.
        root = chat if parent == "-1" else self._root.get(parent, parent)
        self._root[chat] = root
        tokens = fields.tokens("input_length")
        return Row(
            fields.line,
            fields.number("timestamp"),
            tokens,
            fields.tokens("output_length"),
            _grouped(fields, tokens, chat),
            session=root,
            tenant=fields.optional("type"),
        )


def _grouped(fields: Fields, tokens: int, chat: str) -> tuple[int, ...]:
    """Keys of 512-token prefixes from keys of 16-token blocks: a chain, so order counts.

    A recording may leave out the key of a last block that is not full.
    """
    small = fields.keys("hash_ids")
    if len(small) not in (tokens // BAILIAN_BLOCK_TOKENS, -(-tokens // BAILIAN_BLOCK_TOKENS)):
        raise fields.error(f"{len(small)} keys for {tokens} tokens")
    starts = range(0, len(small), _BAILIAN_GROUP)
    groups = [",".join(map(str, small[start : start + _BAILIAN_GROUP])) for start in starts]
    if len(groups) < blocks_of(tokens):
        groups.append(f"the end of {chat}")
    keys, parent = [], b""
    for group in groups:
        parent = blake2b(parent + group.encode(), digest_size=8).digest()
        keys.append(int.from_bytes(parent, "big"))
    return tuple(keys)
