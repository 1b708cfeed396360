"""The heart ends every request once and tells each worker what it must."""

import asyncio

from baton.errors import Reason
from baton.ids import RequestId
from baton.messages import Dispatch, Role, WorkerState
from tests.unit.router.fakes import D2, D, P, Scene, info, member, refused


async def test_sequential_dispatch_from_submit_to_the_last_token(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit(deadline_s=30.0)
    (prefill,) = scene.links["p"].submits
    assert (prefill.leg_id, prefill.kind, list(prefill.request)) == ("r.0.p", 1, [b"x"])
    assert (prefill.prompt_tokens, prefill.ticket.deadline_s) == (10, 30.0)
    assert scene.links["d"].submits == []
    scene.clock.advance(10)
    scene.frame("p", prefilled=["r.0.p"])
    (decode,) = scene.links["d"].submits
    assert (decode.leg_id, decode.kind, decode.ticket.handed) == ("r.0.d", 2, b"kv")
    assert (decode.ticket.ticket_id, decode.ticket.deadline_s) == (prefill.ticket.ticket_id, 20.0)
    scene.frame("d", prefilled=["r.0.d"])
    scene.frame("d", done="r.0.d")
    assert scene.front.failed == []
    assert scene.heart.inflight == 0
    assert scene.links["p"].aborts == scene.links["d"].aborts == []
    assert scene.sample("baton_time_to_first_token_seconds_sum", **{"class": "default"}) == 10
    assert scene.sample("baton_requests_total", outcome="finished", reason="") == 1


async def test_concurrent_dispatch_sends_both_legs_at_once(scene: Scene) -> None:
    push = {"dispatch": Dispatch.CONCURRENT}
    scene.up(info("p", Role.PREFILL, **push), info("d", Role.DECODE, **push))
    scene.submit()
    assert scene.links["p"].submits[0].ticket == scene.links["d"].submits[0].ticket
    scene.frame("d", done="r.0.d")
    assert scene.links["p"].aborts == ["r.0.p"]


async def test_without_prefill_workers_decode_serves_alone(scene: Scene) -> None:
    scene.up(D)
    scene.submit()
    (solo,) = scene.links["d"].submits
    assert (solo.leg_id, solo.kind, solo.HasField("ticket")) == ("r.0.s", 3, False)
    assert scene.sample("baton_choices_total", reason="no_prefill_worker") == 1


async def test_every_frame_of_a_worker_comes_with_the_same_map(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit("a")
    scene.submit("b", may_disaggregate=False)
    scene.frame("d", done="-")
    scene.frame("p", prefilled=["a.0.p"])
    scene.frame("d", done="-")
    (_, first), (_, second) = scene.front.delivered
    assert first is second
    assert second == {"b.0.s": "b", "a.0.d": "a"}


async def test_each_tick_may_renew_what_scaling_is_told(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit()
    assert scene.heart.signals().prefill.arriving_tokens_per_s == 0
    scene.heart.tick(scene.clock.now())
    told = scene.heart.signals()
    assert (told.prefill.arriving_tokens_per_s, told.decode.arriving_tokens_per_s) == (2, 1)
    scene.submit("b")
    scene.heart.tick(scene.clock.now())
    assert scene.heart.signals() == told
    scene.clock.advance(0.5)
    scene.heart.tick(scene.clock.now())
    assert scene.heart.signals().prefill.arriving_tokens_per_s == 4


# --- refusals -------------------------------------------------------------------------------------


async def test_no_worker_starting_and_draining_are_told_apart(scene: Scene) -> None:
    assert refused(scene.heart.admit).reason is Reason.NO_WORKER
    for state in (WorkerState.STARTING, WorkerState.WARMING):
        scene.view(member(D, state))
        assert refused(scene.heart.check_ready).reason is Reason.STARTING
    scene.view(member(D))
    assert refused(scene.heart.admit).reason is Reason.STARTING, "not connected yet"
    scene.frame("d")
    scene.heart.admit()
    scene.view(member(D, WorkerState.DRAINING))
    assert refused(scene.submit).reason is Reason.DRAINING
    assert scene.heart.status()["refused"] == {"no_worker": 1, "starting": 1, "draining": 1}


async def test_a_full_router_refuses_with_retry_after(scene: Scene) -> None:
    scene.up(D)
    scene.submit("a")
    scene.heart.admit(2)
    error = refused(scene.heart.admit, 3)
    assert (error.reason, error.retry_after_s) == (Reason.QUEUE_FULL, 2.0)
    scene.submit("b")
    scene.submit("c")
    assert refused(scene.submit, "d").reason is Reason.QUEUE_FULL
    assert scene.sample("baton_refusals_total", reason="queue_full") == 2
    assert scene.sample("baton_inflight_requests") == 3


async def test_an_id_in_use_is_refused_and_the_first_goes_on(scene: Scene) -> None:
    scene.up(D)
    scene.submit()
    assert refused(scene.submit).reason is Reason.DUPLICATE_ID
    assert scene.heart.inflight == 1


async def test_a_draining_router_finishes_and_takes_nothing(scene: Scene) -> None:
    scene.up(D)
    scene.submit()
    scene.heart.drain()
    assert refused(scene.heart.admit).reason is Reason.DRAINING
    assert refused(scene.submit, "b").reason is Reason.DRAINING
    waiting = asyncio.gather(scene.heart.idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.frame("d", done="r.0.s")
    await waiting


# --- load -----------------------------------------------------------------------------------------


async def test_requests_spread_before_any_report_holds_them(scene: Scene) -> None:
    scene.up(D, D2)
    scene.submit("a")
    scene.submit("b")
    assert [len(scene.links[name].submits) for name in ("d", "d2")] == [1, 1]


async def test_promised_decode_legs_count_while_prefill_runs(scene: Scene) -> None:
    scene.up(P, D, D2)
    scene.submit("a")
    scene.submit("b")
    scene.frame("p", prefilled=["a.0.p", "b.0.p"])
    assert [len(scene.links[name].submits) for name in ("d", "d2")] == [1, 1]


async def test_what_was_sent_counts_until_the_second_frame_after_it(scene: Scene) -> None:
    scene.up(D)
    peer = scene.heart._registry.get(D.worker_id)
    scene.submit()
    pending = [peer.view().pending_requests]
    for _ in range(2):
        scene.frame("d", waiting=1)
        pending.append(peer.view().pending_requests)
    assert pending == [1, 1, 0]
    assert peer.view().waiting == 1


# --- ends -----------------------------------------------------------------------------------------


async def test_a_refusal_of_a_worker_reaches_the_front_end(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit()
    scene.frame("p", ended=[("r.0.p", "prompt_too_long", 4.0), ("unknown.0.p", "internal", 0)])
    ((_, error),) = scene.front.failed
    told = (error.reason, error.message, error.retry_after_s)
    assert told == (Reason.PROMPT_TOO_LONG, "why", 4.0)
    assert scene.links["d"].sent == []


async def test_what_a_prefill_worker_sends_back_is_placed_again(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit()
    scene.frame("p", ended=[("r.0.p", "worker_full", 4.0)])
    assert [s.leg_id for s in scene.links["p"].submits] == ["r.0.p"]
    assert scene.front.failed == []
    assert [s.leg_id for s in scene.links["d"].submits] == ["r.1.s"]


async def test_a_reason_nobody_knows_is_internal(scene: Scene) -> None:
    scene.up(D)
    scene.submit()
    scene.frame("d", ended=[("r.0.s", "quantum_error", 0.0)])
    assert scene.front.reasons == {"r": "internal"}


async def test_a_lost_worker_moves_what_needs_it_and_nothing_else(scene: Scene) -> None:
    scene.up(P, D, D2)
    for name in ("a", "b"):
        scene.submit(name)
    scene.frame("p", prefilled=["a.0.p"])
    on = {"a": next(n for n in ("d", "d2") if scene.links[n].submits)}
    scene.lose("p")
    submits = [s.leg_id for n in ("d", "d2") for s in scene.links[n].submits]
    assert sorted(submits) == ["a.0.d", "b.1.s"]
    scene.lose(on["a"])
    scene.lose(on["a"])
    assert scene.front.reasons == {}
    assert scene.sample("baton_links_lost_total", role="prefill") == 1


async def test_losing_the_decode_worker_aborts_the_prefill_leg(scene: Scene) -> None:
    scene.up(P, D, D2)
    scene.submit()
    decode = scene.heart.explain("r")[-1]["decode"]
    scene.lose(decode)
    assert scene.front.reasons == {}
    assert scene.links["p"].aborts == ["r.0.p"]
    assert [s.leg_id for s in scene.links["p"].submits] == ["r.0.p", "r.1.p"]


async def test_a_worker_that_comes_back_serves_again(scene: Scene) -> None:
    scene.up(D)
    scene.lose("d")
    assert refused(scene.submit).reason is Reason.STARTING
    scene.frame("d")
    scene.submit()
    assert len(scene.links["d"].submits) == 1


async def test_a_deadline_ends_the_request_and_frees_the_worker(scene: Scene) -> None:
    scene.up(D)
    scene.submit("short", deadline_s=5.0)
    scene.submit("long")
    scene.submit("longer", deadline_s=9999.0)
    scene.clock.advance(5)
    scene.frame("d")
    scene.heart.tick(scene.clock.now())
    assert scene.front.reasons == {"short": "deadline_exceeded"}
    assert scene.links["d"].aborts == ["short.0.s"]
    scene.clock.advance(55)
    scene.heart.tick(scene.clock.now())
    assert len(scene.front.reasons) == 3


async def test_an_abort_frees_both_ends_and_is_idempotent(scene: Scene) -> None:
    push = {"dispatch": Dispatch.CONCURRENT}
    scene.up(info("p", Role.PREFILL, **push), info("d", Role.DECODE, **push))
    scene.submit()
    for _ in range(3):
        scene.heart.abort([RequestId("r"), RequestId("unknown")])
    assert (scene.links["p"].aborts, scene.links["d"].aborts) == (["r.0.p"], ["r.0.d"])
    assert scene.front.failed == []
    scene.frame("d", done="r.0.d")
    assert scene.heart.status()["ended"] == {"cancelled": 1}


async def test_what_the_front_end_stops_while_it_reads_has_finished(scene: Scene) -> None:
    scene.up(D)
    scene.submit()
    scene.front.meanwhile = lambda: scene.heart.abort([RequestId("r")])
    scene.frame("d", done="-")
    assert scene.links["d"].aborts == ["r.0.s"]
    assert scene.heart.status()["ended"] == {"finished": 1}


async def test_a_sibling_aborted_while_the_front_end_reads_is_cancelled(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit("a", may_disaggregate=False)
    scene.submit("b")
    scene.front.meanwhile = lambda: scene.heart.abort([RequestId("b")])
    scene.frame("d", done="a.0.s")
    assert scene.heart.status()["ended"] == {"finished": 1, "cancelled": 1}
    assert scene.links["p"].aborts == ["b.0.p"]


async def test_the_front_end_may_abort_siblings_out_of_a_failure(scene: Scene) -> None:
    scene.up(D)
    scene.submit("a")
    scene.submit("b")
    scene.front.on_fail = lambda: scene.heart.abort([RequestId("a"), RequestId("b")])
    scene.frame("d", ended=[("a.0.s", "internal", 0.0)])
    assert scene.front.reasons == {"a": "internal"}
    assert scene.heart.inflight == 0


async def test_closing_ends_what_runs(scene: Scene) -> None:
    scene.up(D)
    scene.submit()
    await scene.heart.aclose()
    assert scene.front.reasons == {"r": "draining"}
