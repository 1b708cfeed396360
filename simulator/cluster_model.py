"""A whole cluster in simulated time: requests find their way through routers and engines.

A request is placed by its router, computed by a prefill worker, moved to a decode worker and
answered there; or computed and answered by one worker. The decode worker takes memory for it when
its prefill starts, so that KV can move while the prompt is being computed; without memory there
the KV waits at the prefill worker, which keeps its own until the transfer is over. Nothing that
waits for decode holds what decode needs, so the pools cannot lock each other up.

`Cluster.run` drives a trace through routers (`plugs.Router`) and, if given, a controller.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from baton.messages import Role
from simulator.changes import Changes
from simulator.clockwork import Clockwork
from simulator.control import Desk
from simulator.fleet import Fleet, State, Worker
from simulator.flight import Flight, flight_of
from simulator.holding import Holding
from simulator.job import End, Job, Kind, Record
from simulator.plugs import Choice, Controller, HoldingRouter, Refused, Router
from simulator.results import Outcome, outcome
from simulator.rules import ClusterRules
from simulator.traces.request import Request, Trace
from simulator.views import Report, RouterView
from simulator.wire import Stream, Wires

PATIENCE_S = 3600.0
"""After the last arrival: what has not ended by then is given up."""


class Cluster:
    """One simulation. Deterministic: the same arguments give the same records."""

    def __init__(
        self,
        rules: ClusterRules,
        make_router: Callable[[int], Router | HoldingRouter],
        controller: Controller | None = None,
        until: Callable[[Record], bool] | None = None,
    ) -> None:
        """`until` hears of each request that ends; True from it ends the run there."""
        self._until = until
        self._over = False
        self.rules = rules
        self.clock = Clockwork()
        self.fleet = Fleet(rules, self, self.wind)
        self.wires = Wires(rules.network, rules.times.kv_bytes_per_token)
        self.views = [RouterView(n, rules.freshness, self.fleet) for n in range(rules.routers)]
        self.routers = [make_router(n) for n in range(rules.routers)]
        self.holding = Holding(self)
        self.flights: dict[int, Flight] = {}
        """Requests that have not ended."""
        self._all: list[Flight] = []
        self._rng = random.Random(rules.seed)
        self.changes = Changes(self)
        self.desk = Desk(self, controller) if controller else None
        for role, count in ((Role.PREFILL, rules.prefill), (Role.DECODE, rules.decode)):
            for _ in range(count):
                self.fleet.join(self.fleet.start(role, 0.0))

    def run(self, trace: Trace) -> Outcome:
        """Serves the whole trace. Raises ValueError for an empty one."""
        if not trace.requests:
            raise ValueError(f"the trace {trace.name} is empty")
        self._plan_ahead()
        now, arrivals = 0.0, deque(trace.requests)
        last_s = trace.requests[-1].arrival_s + PATIENCE_S
        while (arrivals or self.flights) and not self._over:
            next_s = self.clock.next_s
            if arrivals and (next_s is None or arrivals[0].arrival_s <= next_s):
                request = arrivals.popleft()
                now = request.arrival_s
                self._arrive(request, now)
            elif next_s is None or next_s > last_s:
                break
            else:
                now = self.clock.step()
        for flight in list(self.flights.values()):
            self._end(flight, End.UNPLACED)
        return outcome(self, [flight.record for flight in self._all], now)

    def _plan_ahead(self) -> None:
        freshness = self.rules.freshness
        if freshness.every_s:
            for n, view in enumerate(self.views):
                phase_s = freshness.every_s * (n + 1) / len(self.views)
                self.clock.at(phase_s, self._take_reports, view)
        if self.desk:
            self.clock.at(self.rules.control_every_s, self.desk.control, None)
        for fault in self.rules.faults:
            self.clock.at(fault.at_s, self.changes.happen, fault)

    # --- placing ----------------------------------------------------------------------------------

    def _arrive(self, request: Request, now: float) -> None:
        flight = Flight(request, self._rng.randrange(len(self.routers)))
        self._all.append(flight)
        self.flights[request.number] = flight
        if self.desk:
            self.desk.window.arrived(request, now)
        if request.input_tokens + request.output_tokens > self.rules.engine.kv_tokens:
            self._end(flight, End.TOO_LONG)
        else:
            self.place(flight, now)

    def place(self, flight: Flight, now: float) -> None:
        """Asks the router until it names workers that take requests, a bounded number of times."""
        router = self.routers[flight.record.router]
        view = self.views[flight.record.router].at(now)
        while flight.record.attempts < self.rules.attempts_max:
            if isinstance(router, HoldingRouter):
                self.holding.arrived(flight, router, now)
                return
            choice = router.choose(flight.request, view, now)
            if choice is None:
                self.holding.flights[flight.request.number] = flight
                return
            if isinstance(choice, Refused):
                self.refuse(flight, choice)
                return
            if self.send(flight, choice, now):
                return
            flight.record.attempts += 1
        self._end(flight, End.LOST)

    def refuse(self, flight: Flight, refused: Refused) -> None:
        """The router has said no."""
        flight.record.reason = refused.reason
        self._end(flight, End.REFUSED)

    def send(self, flight: Flight, choice: Choice, now: float) -> bool:
        """A request leaves its router; False when a worker refuses because it takes nothing new."""
        workers = self.fleet.workers
        names = [name for name in (choice.prefill, choice.decode) if name is not None]
        if not all(workers[name].state in (State.READY, State.LOST) for name in names):
            return False
        self.holding.flights.pop(flight.request.number, None)
        record, view = flight.record, self.views[flight.record.router]
        view.sent(flight.request, choice, now)
        record.prefill, record.decode, record.reason = choice.prefill, choice.decode, choice.reason
        record.attempts += 1
        decode = workers[choice.decode]
        if choice.prefill is None or choice.prefill == choice.decode:
            self._assign(flight, decode, None)
        else:
            self._assign(flight, decode, workers[choice.prefill])
        rounds, view.rounds = view.rounds, 0
        if rounds:
            due_s = now + rounds * self.rules.network.ask_s
            self.clock.at(due_s, self._deliver, (flight, flight.attempt))
        else:
            self._deliver((flight, flight.attempt), now)
        return True

    def _assign(self, flight: Flight, decode: Worker, prefill: Worker | None) -> None:
        kind = Kind.DECODE if prefill else Kind.SOLO
        flight.decoding = Job(flight.record, kind, flight.generated, flight)
        flight.decoding_at = decode
        decode.flights[flight.request.number] = flight
        if prefill is None:
            decode.engine.expect(flight.decoding)
            return
        flight.computing = Job(flight.record, Kind.PREFILL, flight.generated, flight)
        flight.computing_at = prefill
        prefill.flights[flight.request.number] = flight
        prefill.engine.expect(flight.computing)
        decode.expects(flight.prompt_tokens)
        near = prefill.host == decode.host
        flight.stream = Stream(prefill.worker_id, decode.worker_id, near)

    def _deliver(self, sent: tuple[Flight, int], now: float) -> None:
        flight, attempt = sent
        worker, job = flight.computing_at, flight.computing
        if worker is None or job is None:
            worker, job = flight.decoding_at, flight.decoding
        if worker and job and attempt == flight.attempt and worker.alive:
            worker.engine.submit(job, now)
            self.wind(worker)

    # --- what engines tell ------------------------------------------------------------------------

    def started(self, job: Job, now: float) -> None:
        """A prompt is being computed: its decode worker takes memory as soon as it can."""
        flight = flight_of(job)
        if flight.record.first_s < 0:
            flight.record.started_s = now
            flight.record.hit_tokens = job.done
        if self.desk:
            self.desk.window.started(flight.record, job.prompt - job.done, now)
        if job.kind is Kind.PREFILL and flight.stream and flight.decoding_at:
            flight.stream.computed = job.done
            flight.decoding_at.wanting.append(flight)
            self._grant(flight.decoding_at, now)

    def progressed(self, job: Job, now: float) -> None:
        """A chunk can leave."""
        flight = flight_of(job)
        if flight.stream and flight.computing_at:
            flight.stream.computed = job.done
            self.wires.push(flight.stream, now, flight.computing_at.engine.began_s)

    def computed(self, job: Job, now: float) -> None:
        """The rest can leave, if it has to go anywhere."""
        flight = flight_of(job)
        if flight.record.first_s < 0:
            flight.record.computed_s = now
        if flight.stream and flight.computing_at:
            flight.stream.computed, flight.stream.whole = job.prompt, True
            self._push(flight, now, flight.computing_at.engine.began_s)
        if not job.again:
            # That an answer had to give way to others, routers do not hear.
            self.views[flight.record.router].computed(flight.request)
            self.holding.tell(flight.record.router, now, flight.record)

    def finished(self, job: Job, now: float) -> None:
        """The answer is complete."""
        flight = flight_of(job)
        flight.record.finished_s = now
        if self.desk:
            self.desk.window.finished(flight.record, now)
        self._leave(flight.decoding_at, flight, now)
        self._end(flight, End.FINISHED)

    def _end(self, flight: Flight, how: End) -> None:
        flight.record.end = how
        self.holding.flights.pop(flight.request.number, None)
        self.flights.pop(flight.request.number, None)
        self.views[flight.record.router].ended(flight.request)
        if self._until and self._until(flight.record):
            self._over = True

    # --- the transfer -----------------------------------------------------------------------------

    def _grant(self, worker: Worker, now: float) -> None:
        """Memory for those whose KV will come here, in their order. Preempted answers go first."""
        while worker.wanting and not worker.engine.blocked:
            flight = worker.wanting[0]
            job, stream = flight.decoding, flight.stream
            if job is None or stream is None or not worker.engine.reserve(job, now):
                break
            worker.wanting.popleft()
            stream.open, stream.sent = True, job.done
            worker.granted(flight.prompt_tokens)
            self._push(flight, now, now)
        self.wind(worker)

    def _push(self, flight: Flight, now: float, began_s: float) -> None:
        stream = flight.stream
        if stream is None:
            return
        self.wires.push(stream, now, began_s)
        if stream.whole and stream.open:
            self.clock.at(self.wires.arrival_s(stream), self._land, (flight, flight.attempt))

    def _land(self, sent: tuple[Flight, int], now: float) -> None:
        """All KV is there: prefill may forget it, decode may start."""
        flight, attempt = sent
        source, target, job = flight.computing_at, flight.decoding_at, flight.decoding
        if attempt != flight.attempt or source is None or target is None or job is None:
            return
        if not (source.alive and target.alive):
            return
        if flight.record.first_s < 0:
            flight.record.landed_s = now
        if flight.stream:
            flight.record.moved_tokens += max(flight.prompt_tokens - job.done, 0)
        if flight.computing:
            source.engine.release(flight.computing, now)
        self._leave(source, flight, now)
        self.wind(source)
        flight.computing = flight.computing_at = flight.stream = None
        target.expects_no_more(flight.prompt_tokens)
        target.engine.land(job, now)
        self.wind(target)

    # --- engines and members ----------------------------------------------------------------------

    def wind(self, worker: Worker) -> None:
        """Plans the wake-up of an engine whose plans have changed."""
        engine = worker.engine
        if worker.pushed != engine.version:
            worker.pushed = engine.version
            if engine.ends_s < float("inf"):
                self.clock.at(engine.ends_s, self._wake, (worker, engine.version))

    def _wake(self, planned: tuple[Worker, int], now: float) -> None:
        worker, version = planned
        if worker.engine.version != version or not worker.alive:
            return
        worker.engine.wake(now)
        if worker.wanting:
            self._grant(worker, now)
        self.wind(worker)

    def _leave(self, worker: Worker | None, flight: Flight, now: float) -> None:
        if worker:
            worker.flights.pop(flight.request.number, None)
            self.fleet.end_if_done(worker, now)

    def restart(self, flight: Flight, now: float) -> None:
        """A worker of a request was lost: what is left of it starts again elsewhere."""
        if flight.decoding:
            flight.generated = flight.decoding.generated
        for worker, job in (
            (flight.computing_at, flight.computing),
            (flight.decoding_at, flight.decoding),
        ):
            if worker and job:
                self._withdraw(flight, worker, job, now)
        flight.attempt += 1
        flight.computing = flight.decoding = None
        flight.computing_at = flight.decoding_at = flight.stream = None
        self.views[flight.record.router].ended(flight.request)
        self.place(flight, now)

    def _withdraw(self, flight: Flight, worker: Worker, job: Job, now: float) -> None:
        if flight.stream and job is flight.decoding:
            worker.expects_no_more(flight.prompt_tokens, granted=flight.stream.open)
        if flight in worker.wanting:
            worker.wanting.remove(flight)
        if worker.alive:
            worker.engine.drop(job, now)
            self._grant(worker, now)
        self._leave(worker, flight, now)

    # --- reports ----------------------------------------------------------------------------------

    def _take_reports(self, view: RouterView, now: float) -> None:
        delay_s = self.rules.freshness.delay_s
        self.clock.at(now + delay_s, self._bring_reports, (view, view.take_reports(now)))
        self.clock.at(now + self.rules.freshness.every_s, self._take_reports, view)

    def _bring_reports(self, brought: tuple[RouterView, Sequence[Report]], now: float) -> None:
        view, reports = brought
        view.apply(reports)
        self.holding.tell(view.router, now, None)
