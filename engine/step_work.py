"""What an engine's step computed, how long it took, and how that travels to the worker.

Pure, given readings of a clock. Travels as a plain mapping inside vLLM's connector statistics,
under a key of its own, whatever connector there is.
"""

from __future__ import annotations

import logging
from array import array
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

STEP_KEY = "baton_step"
"""Where the report lies in the statistics."""
_IN_FLIGHT_MAX = 64
"""More steps than any engine has scheduled and not finished."""

_KEY_BYTES = array("Q").itemsize

_log = logging.getLogger("baton.engine")


@dataclass(frozen=True, slots=True)
class StepWork:
    """One engine step. A request that computes one token, drafts apart, decodes."""

    prompts: float = 0.0
    """Prompts computed; of a prompt in several steps the share that this step computed."""
    new_tokens: int = 0
    pairs: float = 0.0
    """Sum over the prompts of new tokens · (tokens before them + half the new)."""
    decodes: int = 0
    kv_tokens: int = 0
    """Tokens before the computed one, summed over the decoding requests."""
    seconds: float = 0.0
    """From the end of the step before while the engine was busy, else since it was scheduled."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What travels with one step. Keys of blocks are packed, 8 bytes each."""

    work: StepWork | None = None
    stored: bytes = b""
    removed: bytes = b""
    left_out: int = 0
    """Blocks since start whose key is not known."""
    block_bytes: int = 0
    """Size of one KV block on one device; 0 where blocks are not all alike."""


_NOTHING = StepReport()


def work_of(output: Any, requests: Mapping[str, Any]) -> StepWork | None:
    """What a SchedulerOutput of vLLM will compute; None for a step without any token."""
    scheduled, old = output.num_scheduled_tokens, output.scheduled_cached_reqs
    if not scheduled:
        return None
    if not output.scheduled_new_reqs and output.total_num_scheduled_tokens == len(scheduled):
        # Most steps are this, and long batches make it the one that has to be quick.
        return StepWork(decodes=len(scheduled), kv_tokens=sum(old.num_computed_tokens))
    before = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
    before.update(zip(old.req_ids, old.num_computed_tokens, strict=True))
    return _mixed(output, before, requests)


def _mixed(output: Any, before: Mapping[str, int], requests: Mapping[str, Any]) -> StepWork:
    prompts = pairs = 0.0
    new_tokens = decodes = kv_tokens = 0
    for request_id, new in output.num_scheduled_tokens.items():
        if new - len(output.scheduled_spec_decode_tokens.get(request_id, ())) == 1:
            decodes += 1
            kv_tokens += before[request_id]
            continue
        prompts += new / max(_to_compute(requests.get(request_id)), new)
        new_tokens += new
        pairs += new * (before[request_id] + new / 2)
    return StepWork(prompts, new_tokens, pairs, decodes, kv_tokens)


def _to_compute(request: Any) -> int:
    """Tokens of the prompt that were not cached when its computation began; 0 = unknown."""
    stats = None if request is None else request.prefill_stats
    return 0 if stats is None else int(stats.num_computed_tokens)


@dataclass(slots=True)
class _Open:
    """A step that was scheduled and has not been digested."""

    step: Any
    work: StepWork | None
    began: float
    computed: float | None = None


class StepMeter:
    """Times steps. They end in the order in which they were scheduled.

    `inline` says that a step is computed within the call that hands it over, as on CPU: it is over
    by the time of the next call. Otherwise it is over when it ends here.
    """

    def __init__(self, inline: bool) -> None:
        self._inline = inline
        self._open: deque[_Open] = deque(maxlen=_IN_FLIGHT_MAX)
        self._computed_at = 0.0
        self._busy = False

    def passed(self, now: float) -> None:
        """Call it before the next step is scheduled."""
        if self._inline and self._open and self._open[-1].computed is None:
            self._open[-1].computed = now

    def scheduled(self, step: Any, work: StepWork | None, now: float) -> None:
        """`now` is when its scheduling began."""
        self._open.append(_Open(step, work, now))

    def ended(self, step: Any, now: float) -> StepWork | None:
        """What it computed, with its duration; None where there is nothing to tell."""
        self.passed(now)
        found = self._found(step)
        if found is None:
            return None
        before, self._computed_at = self._computed_at, found.computed or now
        # With a step in flight the device begins this one when it has ended that one.
        waited = self._busy or found.began < before
        seconds = self._computed_at - (before if waited else found.began)
        return None if found.work is None else replace(found.work, seconds=seconds)

    def settled(self, busy: bool) -> None:
        """Whether there is more to do, once an ended step has been digested."""
        self._busy = busy

    def _found(self, step: Any) -> _Open | None:
        while self._open:
            known = self._open.popleft()
            if known.step is step:
                return known
        return None


def packed(keys: Collection[int]) -> bytes:
    return array("Q", keys).tobytes()


def unpacked(keys: bytes) -> Collection[int]:
    """What was packed on this host."""
    found = array("Q")
    found.frombytes(keys)
    return found


def to_plain(report: StepReport) -> dict[str, Any]:
    """As msgpack can carry it."""
    plain: dict[str, Any] = msgspec.to_builtins(report, builtin_types=(bytes,))
    return plain


class StepReader:
    """Reads the report out of each step's statistics."""

    def __init__(self) -> None:
        self._complained = False

    def read(self, stats: Mapping[str, Any] | None) -> StepReport:
        """The report; an empty one where there is none, or none that can be read."""
        plain = stats.get(STEP_KEY) if isinstance(stats, Mapping) else None
        try:
            return _NOTHING if plain is None else _checked(plain)
        except ValueError as error:
            if not self._complained:
                _log.warning("the engine's report of its step cannot be read: %s", error)
            self._complained = True
            return _NOTHING


def _checked(plain: Any) -> StepReport:
    report = msgspec.convert(plain, StepReport, builtin_types=(bytes,))
    if len(report.stored) % _KEY_BYTES or len(report.removed) % _KEY_BYTES:
        raise ValueError("a key is cut off")
    return report
