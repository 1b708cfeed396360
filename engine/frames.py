"""Step frames: what one router hears of one engine step, as the wire message."""

from __future__ import annotations

from collections.abc import Sequence

from baton.messages import WorkerLoad
from baton.wire import worker_pb2 as wire
from engine.transfers import transfer_message
from kv_transfer.report import TransferReport


class FrameDraft:
    """Collects a frame's news about legs, besides their outputs."""

    def __init__(self) -> None:
        self._prefilled: list[wire.Prefilled] = []
        self._ended: list[wire.Ended] = []

    def prefilled(self, leg_id: str, handed: bytes, cached_tokens: int) -> None:
        self._prefilled.append(
            wire.Prefilled(leg_id=leg_id, handed=handed, cached_tokens=cached_tokens)
        )

    def end(
        self, leg_id: str, reason: str, message: str, retry_after_s: float | None = None
    ) -> None:
        self._ended.append(
            wire.Ended(
                leg_id=leg_id, reason=reason, message=message, retry_after_s=retry_after_s or 0.0
            )
        )

    def frame(
        self, outputs: Sequence[bytes], load: WorkerLoad, transfer: TransferReport | None = None
    ) -> wire.StepFrame:
        """The message; its sequence number is the link's to set."""
        return wire.StepFrame(
            outputs=outputs,
            load=load_message(load),
            prefilled=self._prefilled,
            ended=self._ended,
            transfer=None if transfer is None else transfer_message(transfer),
        )


def load_message(load: WorkerLoad) -> wire.Load:
    return wire.Load(
        running=load.running,
        waiting=load.waiting,
        kv_used=load.kv_used,
        queued_prompt_tokens=load.queued_prompt_tokens,
        steps=load.steps,
        step_s=load.step_s,
        draining=load.draining,
        prefix_queried_tokens=load.prefix_queried_tokens,
        prefix_hit_tokens=load.prefix_hit_tokens,
        preemptions=load.preemptions,
        queue_s=load.queue_s,
    )
