"""Step frames: what one router hears of one engine step, as the wire message."""

from __future__ import annotations

from collections.abc import Sequence

from baton.costs import Fit, WorkerCosts
from baton.errors import BatonError
from baton.messages import LegTimes, WorkerLoad
from baton.wire import worker_pb2 as wire
from engine.holdings import CacheNews
from engine.outlook import Word
from engine.transfers import transfer_message
from kv_transfer.report import TransferReport


class FrameDraft:
    """Collects a frame's news about legs, besides their outputs."""

    def __init__(self) -> None:
        self._prefilled: list[wire.Prefilled] = []
        self._ended: list[wire.Ended] = []
        self._answers: list[wire.Answer] = []

    @classmethod
    def of_end(cls, leg_id: str, error: BatonError) -> FrameDraft:
        """Of the end of one leg."""
        draft = cls()
        draft.end(leg_id, error.reason.value, error.message, error.retry_after_s)
        return draft

    def prefilled(self, leg_id: str, handed: bytes, cached_tokens: int, times: LegTimes) -> None:
        self._prefilled.append(
            wire.Prefilled(
                leg_id=leg_id,
                handed=handed,
                cached_tokens=cached_tokens,
                times=wire.LegTimes(
                    room_s=times.room_s,
                    fetch_s=times.fetch_s,
                    queue_s=times.queue_s,
                    compute_s=times.compute_s,
                ),
            )
        )

    def end(
        self, leg_id: str, reason: str, message: str, retry_after_s: float | None = None
    ) -> None:
        self._ended.append(
            wire.Ended(
                leg_id=leg_id, reason=reason, message=message, retry_after_s=retry_after_s or 0.0
            )
        )

    def answer(self, leg_id: str, word: Word, refused: str) -> None:
        self._answers.append(
            wire.Answer(
                leg_id=leg_id,
                queue_s=word.queue_s,
                cached_tokens=word.cached_tokens,
                ttft_s=word.ttft_s,
                refused=refused,
            )
        )

    def frame(
        self,
        outputs: Sequence[bytes],
        load: WorkerLoad,
        transfer: TransferReport | None = None,
        costs: WorkerCosts | None = None,
    ) -> wire.StepFrame:
        """The message; its sequence number and its news of the cache are the link's to set."""
        return wire.StepFrame(
            outputs=outputs,
            load=load_message(load),
            prefilled=self._prefilled,
            ended=self._ended,
            transfer=None if transfer is None else transfer_message(transfer),
            answers=self._answers,
            costs=None if costs is None else costs_message(costs),
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
        steps_s=load.steps_s,
    )


def cache_message(news: CacheNews) -> wire.CacheDelta:
    return wire.CacheDelta(
        number=news.number, stored=news.stored, removed=news.removed, full=news.full
    )


def costs_message(costs: WorkerCosts) -> wire.Costs:
    return wire.Costs(
        prefill=_fit(costs.prefill), decode=_fit(costs.decode), transfer=_fit(costs.transfer)
    )


def _fit(fit: Fit) -> wire.Fit:
    return wire.Fit(coefficients=fit.coefficients, samples=fit.samples, error=fit.relative_error)
