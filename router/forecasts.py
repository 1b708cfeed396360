"""Where a request would be decoded, and what each way of serving it promises.

Turns what the router knows of its workers into the inputs of `policy.decode_choice` and
`policy.division`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from baton.costs import ttft_s
from baton.messages import Dispatch
from router.caches import Caches
from router.outlook import Outlook
from router.policy import decode_choice
from router.policy.decode_choice import DecodeChoice, DecodeWorker, Link
from router.policy.division import Forecast
from router.registry import Peer
from router.slots import Slots

_OUTPUT_TOKENS = 256
"""Expected of a request that allows more; most answers end by themselves."""
_CHUNK_TOKENS = 2048
_HIDDEN = {Dispatch.SEQUENTIAL: 0.0, Dispatch.CONCURRENT: 0.9}
"""Share of the transfer that prefill covers. What is pushed while prompts are computed leaves the
last layers and the word that it has come."""


@dataclass(frozen=True, slots=True)
class Need:
    """A request as it matters here."""

    prompt_tokens: int
    max_tokens: int
    blocks: tuple[int, ...]
    block_tokens: int

    @property
    def output_tokens(self) -> int:
        """Tokens it is expected to generate."""
        return min(self.max_tokens, _OUTPUT_TOKENS)


class Forecasts:
    """Reads what the router knows, changes nothing."""

    def __init__(self, slots: Slots, caches: Caches, outlook: Outlook) -> None:
        self._slots = slots
        self._caches = caches
        self._outlook = outlook

    def decode(
        self, need: Need, peers: Iterable[Peer], prefill: Peer | None
    ) -> DecodeChoice | None:
        """The decode worker for KV that comes from `prefill`; None when none is open."""
        workers = [self._decoder(need, peer, prefill) for peer in peers]
        return decode_choice.choose(workers, need.prompt_tokens, need.output_tokens)

    def apart(self, need: Need, prefill_ttft_s: float, decode: Peer) -> Forecast:
        """Prefill on its own worker, which would be done after `prefill_ttft_s` seconds."""
        slot = self._slots.take(decode.info.worker_id)
        costs = self._outlook.costs(slot)
        missing = need.prompt_tokens - self.cached_tokens(need, slot)
        step_s = costs.decode_step_s(_batch(decode) + 1, _kv_tokens(decode) + need.prompt_tokens)
        transfer_s, hidden = costs.transfer_s(missing), _HIDDEN[decode.info.dispatch]
        return Forecast(ttft_s(prefill_ttft_s, step_s, transfer_s, hidden), step_s)

    def whole(self, need: Need, decode: Peer, now: float) -> Forecast:
        """Prefill and decode on the decode worker."""
        slot = self._slots.take(decode.info.worker_id)
        cached = self.cached_tokens(need, slot)
        new = max(need.prompt_tokens - cached, 1)
        prefill_s = self._outlook.prefill(slot).seconds(new, cached)
        costs = self._outlook.costs(slot)
        step_s = costs.decode_step_s(_batch(decode) + 1, _kv_tokens(decode) + need.prompt_tokens)
        # The longest gap between two tokens of the batch, not the mean one: a decode pool that
        # takes every prompt that it can hide in a mean is no decode pool.
        stall_s = prefill_s / -(-new // _CHUNK_TOKENS)
        return Forecast(ttft_s(decode.queue_s(now), prefill_s), step_s + stall_s)

    def cached_tokens(self, need: Need, slot: int) -> int:
        """Of the prompt, as far as is known."""
        return min(self._caches.held(need.blocks, slot) * need.block_tokens, need.prompt_tokens)

    def _decoder(self, need: Need, peer: Peer, prefill: Peer | None) -> DecodeWorker:
        info = peer.info
        slot = self._slots.take(info.worker_id)
        return DecodeWorker(
            info.worker_id,
            self._outlook.costs(slot),
            _batch(peer),
            _kv_tokens(peer),
            info.kv_blocks * info.block_size_tokens,
            self.cached_tokens(need, slot),
            Link.HOST if prefill is None or _host(prefill) == _host(peer) else Link.NETWORK,
        )


def _batch(peer: Peer) -> int:
    return peer.view().requests


def _kv_tokens(peer: Peer) -> int:
    """In use or promised. What waits for its KV has no blocks yet, or only in part."""
    view = peer.view()
    used = peer.load.kv_used * peer.info.kv_blocks * peer.info.block_size_tokens
    return round(used) + view.queued_prompt_tokens


def _host(peer: Peer) -> str:
    return peer.info.address.rpartition(":")[0]
