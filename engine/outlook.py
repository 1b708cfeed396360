"""What a worker can tell of work that has not come yet: what is cached and how long it will take.

Brings together what the engine holds, what its steps taught and what waits for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from baton.clock import Clock
from baton.errors import BatonError, Reason
from baton.wire import worker_pb2 as wire
from engine.backlog import Backlog, Prompt
from engine.holdings import Holdings
from engine.learning import Learning
from engine.ports import EngineFacts, StepStats
from kv_transfer.report import TransferReport


@dataclass(frozen=True, slots=True)
class Word:
    """A worker's answer to how it would be for a leg."""

    queue_s: float
    cached_tokens: int
    ttft_s: float


class Outlook:
    """Of one engine. Owners of places are whoever may be gone at once: links."""

    def __init__(self, facts: EngineFacts, clock: Clock) -> None:
        self._block_tokens = facts.block_size_tokens
        self._blocks_max = facts.max_model_len_tokens // facts.block_size_tokens
        self._block_bytes = 0
        self._clock = clock
        self._backlog = Backlog()
        self.holdings = Holdings(facts.kv_blocks)
        self.learning = Learning(facts.block_size_tokens)
        self.ignored = 0
        """Words of routers that make no sense."""

    def stepped(self, stats: StepStats | None) -> None:
        """Once per engine step."""
        if stats is None:
            return
        if stats.stored or stats.removed:
            self.holdings.apply(stats.stored, stats.removed)
        if stats.work is not None:
            self.learning.stepped(stats.work)
        self._block_bytes = stats.block_bytes or self._block_bytes
        self.transferred(stats.transfer)

    def transferred(self, report: TransferReport | None) -> None:
        """The connector's report, whenever there is one."""
        if report is not None:
            self.learning.transferred(report, self._block_bytes)

    def join(self, leg_id: str, prompt_tokens: int, blocks: Sequence[int]) -> None:
        """A leg whose prompt is computed here was taken."""
        if len(blocks) > self._blocks_max:
            self.ignored += 1
            blocks = ()
        self._backlog.join(leg_id, self._prompt(prompt_tokens, blocks), self._clock.now())

    def leave(self, leg_id: str) -> None:
        """Its prompt is computed, or it has ended."""
        self._backlog.leave(leg_id, self._clock.now())

    def probed(self, owner: Hashable, probe: wire.Probe, keep: bool) -> Word | None:
        """How it would be for this leg; None for nonsense. Its place is held if it is to be kept.

        A place that was held for it before is free then.
        """
        # NaN compares false.
        if not probe.hold_s >= 0 or len(probe.blocks) > self._blocks_max:
            self.ignored += 1
            return None
        self._backlog.release(owner, probe.leg_id)
        queue_s, prompt = self.queue_s(), self._prompt(probe.prompt_tokens, probe.blocks)
        if keep and probe.hold_s:
            self._backlog.hold(owner, probe.leg_id, prompt, probe.hold_s, self._clock.now())
        return Word(queue_s, prompt.cached, queue_s + prompt.seconds(self.learning.curve))

    def release(self, owner: Hashable, leg_id: str) -> None:
        """The place held for a leg is free."""
        self._backlog.release(owner, leg_id)

    def forget(self, owner: Hashable) -> None:
        """All its places are free."""
        self._backlog.forget(owner)

    def queue_s(self) -> float:
        """Seconds of work before a new prompt, places held for others included."""
        return self._backlog.seconds(self.learning.curve, self._clock.now())

    def check(self, queue_max_s: float) -> None:
        """Raises BatonError WORKER_FULL while the queue is longer than a router allows; 0 = any."""
        if not queue_max_s >= 0:
            self.ignored += 1
        if not queue_max_s > 0:
            return
        queue_s = self.queue_s()
        if queue_s > queue_max_s:
            raise BatonError(
                Reason.WORKER_FULL,
                f"the worker's queue is {queue_s:.3g} s long, {queue_max_s:.3g} s are allowed",
                retry_after_s=queue_s - queue_max_s,
            )

    def _prompt(self, prompt_tokens: int, blocks: Sequence[int]) -> Prompt:
        # vLLM computes the last block again when all of them are cached: it needs a token's logits.
        usable = max(prompt_tokens - 1, 0) // self._block_tokens
        cached = min(self.holdings.leading(blocks), usable) * self._block_tokens
        return Prompt(prompt_tokens - cached, cached)
