"""Legs on one engine: intake, step frames, aborts, drain.

A router is a `Link` here. One pass over each engine step sorts its outputs by link; nothing else
happens per token. Every leg ends once: in a frame's outputs, as prefilled, or with a reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from baton.clock import Clock
from baton.errors import BatonError, Reason
from baton.messages import LegTimes, WorkerLoad
from baton.wire import worker_pb2 as wire
from engine.direct import DirectStreams, Texts
from engine.frames import FrameDraft
from engine.leg import Leg
from engine.leg_times import leg_times
from engine.limits import Limits
from engine.link import TRANSFER_EVERY_S, Link
from engine.outlook import Outlook
from engine.ports import Engine, LegEnd, Output, Step
from engine.role import Role, intake_of
from engine.silence import Silence
from engine.tally import Tally

_log = logging.getLogger("baton.worker")


class Worker:
    """Runs legs of the given kinds on an engine it does not own."""

    def __init__(
        self,
        engine: Engine,
        roles: Mapping[int, Role],
        limits: Limits,
        clock: Clock,
        on_failed: Callable[[BatonError], None],
        texts: Texts | None = None,
    ) -> None:
        self._engine = engine
        self._roles = roles
        self._limits = limits
        self._clock = clock
        self._on_failed = on_failed
        self._links: dict[int, Link] = {}
        self._legs: dict[str, Leg] = {}
        self.tally = Tally()
        self.outlook = Outlook(engine.facts, clock)
        self.direct = DirectStreams(clock, texts, self._end)
        self._draining = False
        self._failed: BatonError | None = None
        self._last_step_at = clock.now()
        self._silence = Silence()
        self._asked_after = 0
        self._idle = asyncio.Event()
        self._idle.set()

    # -- links

    def open_link(self, router_id: str) -> Link:
        link = Link(router_id, asyncio.Queue(), self.outlook.holdings.open_view())
        self._links[id(link)] = link
        self._push_load(link)
        return link

    async def close_link(self, link: Link) -> None:
        """The router is gone: what it asked for is of no use to anybody."""
        self.outlook.forget(id(link))
        if self._links.pop(id(link), None) is not None:
            self.outlook.holdings.close_view(link.cache)
        mine = [leg_id for leg_id, leg in self._legs.items() if leg.link is link]
        await self.abort(link, mine)

    def resync(self, link: Link) -> None:
        """The next frame of this link is to tell all that the cache holds."""
        link.cache.resync()

    # -- requests

    def probe(self, link: Link, probe: wire.Probe) -> None:
        """Say how it would be for a leg, and keep its place. Nonsense is not answered."""
        refused = self._refusal(probe)
        word = self.outlook.probed(id(link), probe, keep=not refused)
        if word is not None:
            draft = FrameDraft()
            draft.answer(probe.leg_id, word, refused)
            self._push(link, draft)

    def _refusal(self, probe: wire.Probe) -> str:
        try:
            self._admit(probe)
        except BatonError as error:
            return error.reason.value
        return ""

    async def submit(self, link: Link, submit: wire.Submit) -> None:
        """Take a leg, or answer with why not."""
        self.outlook.release(id(link), submit.leg_id)
        try:
            await self._take(link, submit)
        except BatonError as error:
            self.tally.refused += 1
            self._push(link, FrameDraft.of_end(submit.leg_id, error))

    async def _take(self, link: Link, submit: wire.Submit) -> None:
        self._admit(submit)
        role = self._role(submit)
        request = role.request(self._engine, intake_of(submit))
        direct, now = self.direct.open(submit, request), self._clock.now()
        self._busy(now)
        self._legs[submit.leg_id] = Leg(link, role, submit.prompt_tokens, now, direct)
        self.tally.took(submit.prompt_tokens)
        if role.computes_prompt:
            self.outlook.join(submit.leg_id, submit.prompt_tokens, submit.blocks)
        try:
            await self._engine.add(request)
        except BatonError:
            if submit.leg_id in self._legs:
                self._drop(submit.leg_id)
                raise
        else:
            await self._catch_up(submit.leg_id)

    def _busy(self, now: float) -> None:
        if not self._legs:
            self._last_step_at = now
        self._silence.starts(now)
        self._idle.clear()

    async def _catch_up(self, leg_id: str) -> None:
        # The leg may have ended while it was being added; its abort came too early for the engine.
        if leg_id not in self._legs and self._failed is None:
            await self._engine.abort([leg_id])

    def _admit(self, leg: wire.Submit | wire.Probe) -> None:
        retry_s, longest = self._limits.retry_after_s, self._engine.facts.max_model_len_tokens
        if self._failed is not None:
            raise self._failed
        if self._draining:
            raise BatonError(Reason.DRAINING, "the worker is draining", retry_after_s=retry_s)
        if leg.leg_id in self._legs:
            raise BatonError(Reason.DUPLICATE_ID, f"leg {leg.leg_id} runs already")
        self._limits.check(leg.prompt_tokens, longest, self.tally.waiting)

    def _role(self, submit: wire.Submit) -> Role:
        if (role := self._roles.get(submit.kind)) is None:
            raise BatonError(Reason.UNSUPPORTED, f"this worker runs no legs of kind {submit.kind}")
        # Legs whose KV comes from elsewhere do not stand in the queue of prompts.
        if role.computes_prompt:
            self.outlook.check(submit.queue_max_s)
        return role

    async def abort(self, link: Link, leg_ids: Sequence[str]) -> None:
        """End legs and free places of this link without an answer. Unknown ones are ignored."""
        for leg_id in leg_ids:
            self.outlook.release(id(link), leg_id)
        mine = (i for i in leg_ids if i in self._legs and self._legs[i].link is link)
        known = list(dict.fromkeys(mine))
        for leg_id in known:
            self._drop(leg_id)
        self.tally.aborted += len(known)
        if known and self._failed is None:
            await self._engine.abort(known)

    # -- steps

    async def run(self) -> None:
        """Pass on engine steps until the engine fails. Never returns otherwise."""
        while self._failed is None:
            try:
                if stopped := self._pass_on(await self._engine.step()):
                    await self._engine.abort(stopped)
            except BatonError as error:
                self.fail(error)

    def _pass_on(self, step: Step) -> Sequence[str]:
        """Returns the legs that a stop text has ended, of which the engine knows nothing."""
        stopped: list[str] = []
        now = self._clock.now()
        self.tally.stepped(step.stats, now - self._last_step_at)
        self._last_step_at = now
        self._silence.ends(now)
        self.outlook.stepped(step.stats)
        tokens: dict[int, list[Output]] = {}
        drafts: dict[int, FrameDraft] = {}
        for output in step.outputs:
            if (leg := self._legs.get(output.request_id)) is None:
                continue
            end = self._engine.ended(output)
            key = id(leg.link)
            if end is not None and not (end is LegEnd.DONE and leg.role.delivers_tokens):
                self._close(output, leg, end, drafts.setdefault(key, FrameDraft()))
                continue
            if not leg.had_output:
                self._started(output, leg, drafts.setdefault(key, FrameDraft()))
            try:
                told, stops = leg.tells(output, now, ended=end is not None)
            except BatonError as error:
                self._break(output.request_id, error, drafts.setdefault(key, FrameDraft()))
                stopped.append(output.request_id)
                continue
            if leg.role.delivers_tokens and told is not None:
                tokens.setdefault(key, []).append(told)
            if stops:
                stopped.append(output.request_id)
            if end is not None or stops:
                self._drop(output.request_id)
                self.tally.finished += 1
        self._send(tokens, drafts)
        return stopped

    def _started(self, output: Output, leg: Leg, draft: FrameDraft) -> None:
        leg.had_output = True
        self.tally.started(leg.prompt_tokens)
        self.outlook.leave(output.request_id)
        if leg.role.delivers_tokens:
            # The router does not look into outputs; this is its news of the first token.
            cached = self._engine.cached_tokens(output)
            draft.prefilled(output.request_id, b"", cached, self._times(output, leg))

    def _times(self, output: Output, leg: Leg) -> LegTimes:
        return leg_times(leg.taken_at, self._engine.moments(output), self._last_step_at)

    def _break(self, leg_id: str, error: BatonError, draft: FrameDraft) -> None:
        self._drop(leg_id)
        self.tally.failed += 1
        draft.end(leg_id, error.reason.value, error.message)

    def _close(self, output: Output, leg: Leg, end: LegEnd, draft: FrameDraft) -> None:
        self._drop(output.request_id)
        if end is not LegEnd.DONE:
            self.tally.failed += 1
            draft.end(output.request_id, *leg.role.failure(end, leg.had_output))
            return
        try:
            handed = leg.role.handed(self._engine, output)
        except BatonError as error:
            self.tally.failed += 1
            draft.end(output.request_id, error.reason.value, error.message)
        else:
            self.tally.finished += 1
            times = self._times(output, leg)
            draft.prefilled(output.request_id, handed.handed, handed.cached_tokens, times)

    def _send(self, tokens: Mapping[int, list[Output]], drafts: Mapping[int, FrameDraft]) -> None:
        load, now = self.load(), self._clock.now()
        for key in {*tokens, *drafts}:
            if (link := self._links.get(key)) is None:
                continue
            buffers = self._engine.encode(tokens[key]) if key in tokens else []
            link.push(drafts.get(key, FrameDraft()).frame(buffers, load), now)
        for link in self._links.values():
            if link.wants_cache(now):
                self._push_load(link)

    def _drop(self, leg_id: str) -> None:
        leg = self._legs.pop(leg_id)
        self.tally.left(leg.prompt_tokens, leg.had_output)
        self.outlook.leave(leg_id)
        self.direct.give_up(leg.direct)
        if not self._legs:
            self._silence.pauses(self._clock.now())
            self._idle.set()

    async def ask_after_transfers(self) -> None:
        """Fetch what ended with the engine's last step: no step's report has it. Call it often."""
        report, steps = self.tally.transfer, self.tally.steps
        quiet = self._clock.now() - self._last_step_at >= TRANSFER_EVERY_S
        if report is None or not quiet or self._failed is not None:
            return
        if self._asked_after == steps and not (report.tickets or report.fenced_blocks):
            return
        self._asked_after = steps
        try:
            found = await self._engine.transfer_report()
            self._silence.ends(self._clock.now())
            self.tally.reported(found)
            self.outlook.transferred(found)
        except BatonError as error:
            _log.info("no report of transfers: %s", error)

    # -- state

    def load(self) -> WorkerLoad:
        return self.tally.load(self._draining or self._failed is not None, self.outlook.queue_s())

    def heartbeat(self) -> None:
        """Tell every router the load; call at least each second. Finds a stuck engine."""
        for link in self._links.values():
            self._push_load(link)
        silent_s = self._silence.seconds(self._clock.now())
        if self._legs and silent_s > self._limits.silence_timeout_s:
            self.fail(BatonError(Reason.ENGINE_FAILED, f"no step for {silent_s:.0f} s"))

    def _push_load(self, link: Link) -> None:
        now, learning = self._clock.now(), self.outlook.learning
        report = link.transfer_news(self.tally.transfer, now)
        costs = learning.costs if link.wants_costs(learning.lessons, now) else None
        link.push(FrameDraft().frame([], self.load(), report, costs), now)

    def _push(self, link: Link, draft: FrameDraft) -> None:
        link.push(draft.frame([], self.load()), self._clock.now())

    def fail(self, error: BatonError) -> None:
        """The engine is gone: every leg ends with this error, and nothing new is taken."""
        if self._failed is not None:
            return
        self._failed = error
        _log.error("engine failed: %s", error.message)
        for leg_id, leg in list(self._legs.items()):
            self._break(leg_id, BatonError(Reason.WORKER_LOST, error.message), news := FrameDraft())
            self._push(leg.link, news)
        self._on_failed(error)

    async def drain(self, timeout_s: float | None) -> int:
        """Take nothing new and wait for what runs; None waits for ever. Returns legs cut off."""
        self._draining = True
        self.heartbeat()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
                await self.direct.idle()
        except TimeoutError:
            return await self._cut_off()
        return 0

    async def _cut_off(self) -> int:
        cut = self.direct.unread
        for leg_id in list(self._legs):
            cut += leg_id in self._legs  # some end while others are aborted
            await self._end(leg_id, Reason.DRAINING, "the worker stopped before the end")
        return cut

    async def _end(self, leg_id: str, reason: Reason, why: str) -> None:
        if (leg := self._legs.get(leg_id)) is not None:
            self._push(leg.link, FrameDraft.of_end(leg_id, BatonError(reason, why)))
            await self.abort(leg.link, [leg_id])

    @property
    def legs(self) -> int:
        """Those that run, and those whose answer is not read to its end."""
        return len(self._legs) + self.direct.unread

    @property
    def links(self) -> int:
        return len(self._links)
