"""What work costs on this worker, learned from the engine's steps and its connector's report.

Pure.
"""

from __future__ import annotations

from baton.costs import PrefillCurve, WorkerCosts
from engine.step_work import StepWork
from kv_transfer.report import TransferReport

_KNOWN_AFTER = 8
"""Samples before the decode fit may be taken off a mixed step."""


class Learning:
    """The fits, and the prefill fit frozen as it is now."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._heard = TransferReport()
        self.costs = WorkerCosts()
        self.curve: PrefillCurve = self.costs.curve()

    @property
    def lessons(self) -> int:
        """Counts samples: what was told at one count is still true while it stays."""
        fits = self.costs.prefill, self.costs.decode, self.costs.transfer
        return sum(fit.samples for fit in fits)

    def forget(self) -> None:
        """Learn anew: what was measured cost more than it ever will again."""
        self.costs = WorkerCosts()
        self.curve = self.costs.curve()

    def stepped(self, work: StepWork) -> None:
        """One engine step."""
        if not work.new_tokens:
            self.costs.decode.learn((1.0, work.decodes, work.kv_tokens), work.seconds)
            return
        seconds = work.seconds - self._decoding_s(work)
        known = self.costs.decode.samples >= _KNOWN_AFTER
        if seconds > 0 and (known or not work.decodes):
            # The form is linear: what holds for each prompt holds for the sum over those of a
            # step, so that the sum over a queue is what the engine needs for it.
            self.costs.prefill.learn((work.prompts, work.new_tokens, work.pairs), seconds)
            self.curve = self.costs.curve()

    def _decoding_s(self, work: StepWork) -> float:
        # Mixed steps are all that a worker with both kinds of work has under load, so they have to
        # teach. Decoding adds its share to them but not the cost of a step of its own.
        if not work.decodes:
            return 0.0
        costs = self.costs
        whole = costs.decode_step_s(work.decodes, work.kv_tokens)
        return whole - costs.decode_step_s(0, 0)

    def transferred(self, report: TransferReport, block_bytes: int) -> None:
        """The connector's report, which counts from its start.

        The fit is of the time that a prompt waits for its transfer after its last step: what was
        sent while the prompt was computed costs nobody anything.
        """
        before, after = self._heard.exposed, report.exposed
        prompts = sum(after.counts) - sum(before.counts)
        if prompts <= 0 or not block_bytes:
            return
        sent = report.bytes_written - self._heard.bytes_written
        tokens = sent / block_bytes * self._block_tokens
        self._heard = report
        self.costs.transfer.learn((float(prompts), tokens), after.sum_s - before.sum_s)
