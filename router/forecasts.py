"""Where a request would be decoded, and what each way of serving it promises.

Turns what the router knows of its workers into the inputs of `policy.decode_choice` and
`policy.division`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from baton.settings import SloSettings
from router.caches import Caches
from router.outlook import Outlook
from router.peer import Peer
from router.policy import decode_choice
from router.policy.decode_choice import DecodeChoice, DecodeWorker, Link
from router.policy.division import Forecast
from router.slots import Slots

_CHUNK_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Need:
    """A request as it matters here."""

    prompt_tokens: int
    output_tokens: int
    """It is expected to generate."""
    blocks: tuple[int, ...]
    block_tokens: int
    slo: SloSettings
    """What its tenant is promised."""


class Forecasts:
    """Reads what the router knows, changes nothing."""

    def __init__(self, slots: Slots, caches: Caches, outlook: Outlook) -> None:
        self._slots = slots
        self._caches = caches
        self._outlook = outlook

    def decode(
        self, need: Need, peers: Sequence[Peer], prefill: Peer | None
    ) -> DecodeChoice | None:
        """The decode worker for KV that comes from `prefill`; None when none is open."""
        slots = [self._slots.take(peer.info.worker_id) for peer in peers]
        cached = self._cached(need, slots)
        host = "" if prefill is None else _host(prefill)
        workers = [
            self._decoder(peer, slot, cached.get(slot, 0), host)
            for peer, slot in zip(peers, slots, strict=True)
        ]
        return decode_choice.choose(workers, need.prompt_tokens, need.output_tokens)

    def apart(self, need: Need, prefill_ttft_s: float, decode: Peer) -> Forecast:
        """Prefill on its own worker, which would be done after `prefill_ttft_s` seconds."""
        slot = self._slots.take(decode.info.worker_id)
        missing = need.prompt_tokens - self._cached(need, [slot]).get(slot, 0)
        # Fitted to the part of the transfer that prefill does not cover.
        exposed_s = self._outlook.decode(slot).transfer_s(missing)
        step_s = self._step_s(need, decode, slot)
        return Forecast(prefill_ttft_s + exposed_s + step_s, step_s)

    def whole(self, need: Need, decode: Peer, now: float) -> Forecast:
        """Prefill and decode on the decode worker."""
        slot = self._slots.take(decode.info.worker_id)
        cached = self._cached(need, [slot]).get(slot, 0)
        new = max(need.prompt_tokens - cached, 1)
        prefill_s = self._outlook.prefill(slot).seconds(new, cached)
        # The longest gap between two tokens of the batch, not the mean one: a decode pool that
        # takes every prompt that it can hide in a mean is no decode pool.
        stall_s = prefill_s / -(-new // _CHUNK_TOKENS)
        step_s = self._step_s(need, decode, slot)
        return Forecast(decode.queue_s(now) + prefill_s, step_s + stall_s)

    def _step_s(self, need: Need, decode: Peer, slot: int) -> float:
        """One step of the batch with this request in it."""
        kv_tokens = decode.standing.kv_tokens + need.prompt_tokens
        return self._outlook.decode(slot).decode_step_s(decode.standing.batch + 1, kv_tokens)

    def _cached(self, need: Need, slots: Sequence[int]) -> dict[int, int]:
        """Tokens of the prompt by worker, as far as is known."""
        levels = self._caches.held(need.blocks, sum(1 << slot for slot in slots))
        most, size = need.prompt_tokens, need.block_tokens
        return {s: min(n * size, most) for n, mask in levels for s in slots if mask >> s & 1}

    def _decoder(self, peer: Peer, slot: int, cached_tokens: int, host: str) -> DecodeWorker:
        return DecodeWorker(
            peer.info.worker_id,
            self._outlook.decode(slot),
            peer.standing.batch,
            peer.standing.kv_tokens,
            peer.kv_tokens_max,
            cached_tokens,
            Link.HOST if not host or host == _host(peer) else Link.NETWORK,
        )


def _host(peer: Peer) -> str:
    return peer.info.address.rpartition(":")[0]
