"""What one worker can do within the promises: see `baton.capacity`, which routers use as well."""

from baton.capacity import decode_tokens_per_s, prefill_tokens_per_s

__all__ = ["decode_tokens_per_s", "prefill_tokens_per_s"]
