"""One engine: a scheduler that iterates over chunks of prompts and decode steps, in closed form.

An iteration with prompt chunks is one event. Decode steps between two events are advanced at once:
their times follow from the batch and its KV (`EngineTimes.steps_s`), and an arrival cuts such a
stretch at the end of the step that it falls into. Requests are admitted in order of arrival when
their whole prompt fits; when answers outgrow the memory, those who joined last lose their place
and are computed again (vLLM's preemption by recomputation). What others have to know the engine
tells its `Listener`; it never looks at other engines.
"""

from __future__ import annotations

import heapq
from collections import deque
from math import inf

from simulator.engine_model.times import EngineTimes
from simulator.job import Job, Kind, Listener
from simulator.kv_pool import KvPool
from simulator.rules import EngineRules
from simulator.traces.request import BLOCK_TOKENS


class Engine:
    """One engine. After each call `ends_s` says when `wake` is due; `version` marks a change."""

    def __init__(self, times: EngineTimes, rules: EngineRules, listener: Listener) -> None:
        self.times = times
        self.rules = rules
        self.pool = KvPool(rules.kv_tokens)
        self.ends_s = inf
        self.version = 0
        self.steps = 0
        self.queued_tokens = 0
        """Tokens of prompts here that are still to be computed."""
        self.queued_work_s = 0.0
        self.kv_tokens = 0
        """Context of those who decode."""
        self.busy_s = 0.0
        self.computed_tokens = 0
        self.waiting: deque[Job] = deque()
        self.ready: deque[Job] = deque()
        self.computing: list[Job] = []
        self.decoding: dict[Job, None] = {}
        self._listener = listener
        self._headroom = int(rules.headroom * rules.kv_tokens)
        self._finishes: list[tuple[int, int, Job]] = []
        self._chunks: list[tuple[Job, int]] = []
        self.began_s = 0.0
        self._planned_steps = 0
        self._waking = False
        self.stopped = False

    # --- what others do to it ---------------------------------------------------------------------

    def expect(self, job: Job) -> None:
        """Counts the work of a job that is on its way."""
        cached = min(self.pool.match(job.keys) * BLOCK_TOKENS, job.prompt - 1)
        self._estimate(job, cached)

    def submit(self, job: Job, now: float) -> None:
        """A prompt to compute. It was expected before."""
        self.waiting.append(job)
        self.nudge(now)

    def reserve(self, job: Job, now: float) -> bool:
        """Memory for KV that will arrive, or False. Sets `job.done` to what is here already."""
        # The planned steps still have to find room for their tokens.
        fits = job.hold(self.pool, max(self._headroom, self._planned_steps * self.batch))
        if not fits and self._planned_steps > 1:
            self._cut(now)
            fits = job.hold(self.pool, max(self._headroom, self._planned_steps * self.batch))
        if fits:
            job.done = job.published * BLOCK_TOKENS
        return fits

    def land(self, job: Job, now: float) -> None:
        """The KV of a reserved job is complete: it can decode."""
        job.publish(self.pool, job.prompt)
        self.ready.append(job)
        self.nudge(now)

    def release(self, job: Job, now: float) -> None:
        """Gives back the memory of a job that is not decoding."""
        job.free(self.pool)
        self.nudge(now)

    def drop(self, job: Job, now: float) -> None:
        """Forgets a job, whatever it is doing. A running step ends first."""
        job.dropped = True
        self._estimate(job, job.prompt)
        for queue in (self.waiting, self.ready, self.computing):
            if job in queue:
                queue.remove(job)
        if job not in self.decoding:
            job.free(self.pool)
        self.nudge(now)

    def nudge(self, now: float) -> None:
        """Something changed: start when idle, or let a stretch of decode steps end early."""
        if self._waking:
            return
        if self.ends_s == inf:
            self._plan(now)
        elif self._planned_steps > 1:
            self._cut(now)

    def wake(self, now: float) -> None:
        """The planned iteration is over."""
        self._waking = True
        self.busy_s += now - self.began_s
        self.ends_s = inf
        self._end_steps(now)
        self._end_chunks(now)
        self._waking = False
        self._plan(now)

    def stop(self, now: float) -> None:
        """It is lost in the middle of a step. Jobs know what had been generated until then."""
        over = 0
        if self._planned_steps > 1:
            over = self.times.steps_within(now - self.began_s, self.batch, self.kv_tokens)
        for job in self.decoding:
            made = self.steps - job.join_step + over
            job.answer_left = max(job.answer_left - made, 1)
            if job.record.first_s > now:
                job.record.first_s = -1.0
        self.version += 1
        self.ends_s = inf
        self.stopped = True

    # --- what others ask --------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Requests that decode."""
        return len(self.decoding)

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits here."""
        return self.ends_s == inf and not (self.waiting or self.ready or self.computing)

    @property
    def blocked(self) -> bool:
        """Whether prompts wait for memory: nobody else may take it."""
        return bool(self.waiting)

    def left_s(self, now: float) -> float:
        """Until the current step or iteration ends."""
        if self.ends_s == inf:
            return 0.0
        if self._planned_steps > 1:
            over = self.times.steps_within(now - self.began_s, self.batch, self.kv_tokens)
            return max(self.began_s + self._steps_s(over + 1) - now, 0.0)
        return self.ends_s - now

    def backlog_s(self, now: float) -> float:
        """Until a new prompt would start, if memory did not matter."""
        left_s = self.left_s(now)
        queued_s = max(self.queued_work_s - sum(self._chunk_works()), 0.0)
        return left_s + queued_s + self.times.prefill_fixed_s * len(self.waiting)

    # --- planning ---------------------------------------------------------------------------------

    def _plan(self, now: float) -> None:
        self.version += 1
        self.began_s = now
        self._waking = True
        self._join_ready(now)
        self._make_room()
        self._choose_chunks(now)
        self._waking = False
        batch = len(self.decoding)
        if self._chunks:
            work_s = sum(self._chunk_works())
            self._planned_steps = 1 if batch else 0
            self.ends_s = now + self.times.iteration_s(work_s, batch, self.kv_tokens)
        elif batch:
            steps = min(self._next_finish() - self.steps, self.pool.room // batch)
            self._planned_steps = steps
            self.ends_s = now + self.times.steps_s(steps, batch, self.kv_tokens)
        else:
            self._planned_steps = 0
            self.ends_s = inf
        if batch:
            self._first_tokens(now, batch)

    def _cut(self, now: float) -> None:
        batch = len(self.decoding)
        over = self.times.steps_within(now - self.began_s, batch, self.kv_tokens)
        # A step that ends this very moment is over; otherwise the one that runs ends first.
        steps = over if over and self.began_s + self._steps_s(over) >= now else over + 1
        if steps < self._planned_steps:
            self.version += 1
            self._planned_steps = steps
            self.ends_s = max(now, self.began_s + self._steps_s(steps))

    def _steps_s(self, steps: int) -> float:
        return self.times.steps_s(steps, len(self.decoding), self.kv_tokens)

    def _chunk_works(self) -> list[float]:
        chunk_s = self.times.chunk_s
        return [chunk_s(tokens, job.done) for job, tokens in self._chunks]

    def _join_ready(self, now: float) -> None:
        ready = self.ready
        while ready and len(self.decoding) + len(self.computing) < self.rules.max_running:
            job = ready.popleft()
            if job.record.first_s < 0:
                job.record.joined_s = now
            self._join(job)

    def _join(self, job: Job) -> None:
        job.join_step = self.steps
        job.finish_step = self.steps + job.answer_left
        self.decoding[job] = None
        self.kv_tokens += job.prompt
        heapq.heappush(self._finishes, (job.finish_step, job.number, job))

    def _first_tokens(self, now: float, batch: int) -> None:
        """Those who join now have their first token after this step."""
        first_s = self.ends_s
        if self._planned_steps > 1:
            first_s = now + self.times.step_s(batch, self.kv_tokens)
        for job in reversed(self.decoding):
            if job.join_step != self.steps:
                break
            if job.record.first_s < 0:
                job.record.first_s = first_s

    def _make_room(self) -> None:
        """Every answer needs room for a token; those who joined last give way."""
        while self.decoding and self.pool.room < len(self.decoding):
            job, _ = self.decoding.popitem()
            self._leave(job)
            job.free(self.pool)
            job.record.preemptions += 1
            job.kind, job.again = Kind.SOLO, True
            job.prompt = job.record.request.input_tokens + job.generated
            job.done = 0
            self.expect(job)
            self.waiting.appendleft(job)

    def _choose_chunks(self, now: float) -> None:
        budget = self.rules.max_batched_tokens - len(self.decoding)
        for job in self.computing:
            budget = self._chunk(job, budget)
        slots = self.rules.max_running - len(self.decoding) - len(self.computing)
        while self.waiting and budget > 0 and slots > 0:
            job = self.waiting[0]
            if not job.hold(self.pool, len(self.decoding) + self._headroom):
                break
            self.waiting.popleft()
            self.computing.append(job)
            job.done = min(job.published * BLOCK_TOKENS, job.prompt - 1)
            self._estimate(job, job.done)
            self._listener.started(job, now)
            budget = self._chunk(job, budget)
            slots -= 1

    def _chunk(self, job: Job, budget: int) -> int:
        tokens = min(job.prompt - job.done, budget)
        if tokens > 0:
            self._chunks.append((job, tokens))
            # As in vLLM, what is scheduled can be found at once, by those scheduled after it.
            job.publish(self.pool, job.done + tokens)
        return budget - tokens

    # --- ending -----------------------------------------------------------------------------------

    def _end_steps(self, now: float) -> None:
        steps, batch = self._planned_steps, len(self.decoding)
        if not steps:
            return
        self.steps += steps
        self.kv_tokens += steps * batch
        self.pool.grow(steps * batch)
        finishes = self._finishes
        while finishes and finishes[0][0] <= self.steps:
            _, _, job = heapq.heappop(finishes)
            if job in self.decoding and job.finish_step == self.steps:
                del self.decoding[job]
                self._finish(job, now)
        for job in [job for job in self.decoding if job.dropped]:
            del self.decoding[job]
            self._leave(job)
            job.free(self.pool)

    def _finish(self, job: Job, now: float) -> None:
        self._leave(job)
        job.free(self.pool)
        if not job.dropped:
            self._listener.finished(job, now)

    def _leave(self, job: Job) -> None:
        """What a job that no longer decodes has generated, and what it holds."""
        made = self.steps - job.join_step
        self.kv_tokens -= job.prompt + made
        job.private += made
        job.answer_left -= made
        job.finish_step = -1

    def _end_chunks(self, now: float) -> None:
        chunks, self._chunks = self._chunks, []
        for job, tokens in chunks:
            if job.dropped:
                continue
            job.done += tokens
            self.computed_tokens += tokens
            self._estimate(job, job.done)
            if job.done < job.prompt:
                if job.kind is Kind.PREFILL:
                    self._listener.progressed(job, now)
                continue
            self.computing.remove(job)
            self._listener.computed(job, now)
            if job.kind is not Kind.PREFILL:
                self._answer(job, now)

    def _answer(self, job: Job, now: float) -> None:
        """A prompt that stays here: its last chunk gave a token."""
        record = job.record
        if record.first_s < 0:
            record.landed_s = record.joined_s = record.first_s = now
        job.answer_left -= 1
        if job.answer_left:
            self._join(job)
        else:
            job.free(self.pool)
            self._listener.finished(job, now)

    def _next_finish(self) -> int:
        """The step at which the next answer is complete. Entries of those who left are dropped."""
        finishes = self._finishes
        while True:
            step, _, job = finishes[0]
            if job in self.decoding and job.finish_step == step:
                return step
            heapq.heappop(finishes)

    # --- counts -----------------------------------------------------------------------------------

    def _estimate(self, job: Job, done: int) -> None:
        """Puts the work that is left in place of what was believed before."""
        new = job.prompt - done
        work_s = self.times.chunk_s(new, done)
        self.queued_tokens += new - job.new_tokens
        self.queued_work_s += work_s - job.work_s
        job.new_tokens, job.work_s = new, work_s
