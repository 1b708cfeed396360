"""Counts of one worker, kept as its legs come and go."""

from __future__ import annotations

from dataclasses import dataclass

from baton.messages import WorkerLoad
from engine.ports import StepStats
from kv_transfer.report import TransferReport


@dataclass(slots=True)
class Tally:
    """Requests by state, tokens queued, and totals since start.

    `waiting` legs have produced nothing yet; the scheduler may already be computing them.
    """

    running: int = 0
    waiting: int = 0
    queued_prompt_tokens: int = 0
    submitted: int = 0
    refused: int = 0
    finished: int = 0
    aborted: int = 0
    failed: int = 0
    steps: int = 0
    step_s: float = 0.0
    steps_s: float = 0.0
    kv_used: float = 0.0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    left_out_blocks: int = 0
    """Cached blocks of which no router hears, because their key is not known."""
    transfer: TransferReport | None = None
    """The engine's last report of its transfers. It stays while the engine has no step to make."""

    def took(self, prompt_tokens: int) -> None:
        self.submitted += 1
        self.waiting += 1
        self.queued_prompt_tokens += prompt_tokens

    def started(self, prompt_tokens: int) -> None:
        """A leg's first output came."""
        self.waiting -= 1
        self.running += 1
        self.queued_prompt_tokens -= prompt_tokens

    def left(self, prompt_tokens: int, had_output: bool) -> None:
        if had_output:
            self.running -= 1
        else:
            self.waiting -= 1
            self.queued_prompt_tokens -= prompt_tokens

    def stepped(self, stats: StepStats | None, step_s: float) -> None:
        self.steps += 1
        self.step_s = step_s
        self.steps_s += step_s
        if stats is not None:
            self.kv_used = stats.kv_used
            self.prefix_queried_tokens += stats.prefix_queried_tokens
            self.prefix_hit_tokens += stats.prefix_hit_tokens
            self.preemptions += stats.preemptions
            self.left_out_blocks = stats.left_out or self.left_out_blocks
            self.reported(stats.transfer)

    def reported(self, transfer: TransferReport | None) -> None:
        self.transfer = transfer or self.transfer

    def load(self, draining: bool, queue_s: float = 0.0) -> WorkerLoad:
        return WorkerLoad(
            running=self.running,
            waiting=self.waiting,
            kv_used=self.kv_used,
            queued_prompt_tokens=self.queued_prompt_tokens,
            steps=self.steps,
            step_s=self.step_s,
            draining=draining,
            prefix_queried_tokens=self.prefix_queried_tokens,
            prefix_hit_tokens=self.prefix_hit_tokens,
            preemptions=self.preemptions,
            queue_s=queue_s,
            steps_s=self.steps_s,
        )
