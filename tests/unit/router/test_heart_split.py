"""The heart notes what the split of a first token needs."""

from __future__ import annotations

import pytest

from baton.messages import Role
from baton.spans import SpanContext
from baton.wire import worker_pb2 as pb
from router.exchange import Exchange
from router.split import Part, Split
from router.tracing import Trace, Traced
from tests.unit.router.fakes import D2, D, P, Scene, info


def told(leg: str, **times: float) -> dict[str, list[pb.Prefilled]]:
    return {"prefilled": [pb.Prefilled(leg_id=leg, handed=b"kv", times=pb.LegTimes(**times))]}


def word(scene: Scene, worker: str, leg: str, stepped: float = 0.0, **times: float) -> None:
    news = pb.StepFrame(load=pb.Load(steps_s=stepped), **told(leg, **times))
    scene.heart.on_frame(worker, news)


def seconds(split: Split | None) -> dict[str, float]:
    assert split is not None
    return {part.value: split.seconds(part) for part in Part if split.seconds(part)}


async def test_a_stream_is_split_when_its_first_token_is_written(scene: Scene) -> None:
    scene.up(P, D)
    exchange = Exchange(97.0)
    scene.submit(exchange=exchange)
    scene.clock.advance(10)
    word(scene, "p", "r.0.p", queue_s=2, compute_s=7)
    scene.clock.advance(10)
    word(scene, "d", "r.0.d", room_s=1, fetch_s=2, queue_s=1, compute_s=4)
    assert scene.sample("baton_ttft_part_seconds_count", part="delivery") == 0
    exchange.written(122.0)
    assert seconds(exchange.split) == {
        "admission_queue": 3,
        "prefill_queue": 2,
        "prefill_compute": 7,
        "exposed_transfer": 3,
        "decode_queue": 2,
        "first_decode_step": 4,
        "delivery": 4,
    }
    assert scene.sample("baton_ttft_part_seconds_sum", part="delivery") == 4
    story = scene.heart.story("r")
    assert story is not None
    assert story.splitlines()[-1].startswith("  first token after 25000.0 ms: admission_queue 3000")


async def test_a_lost_attempt_counts_where_it_was_spent(scene: Scene) -> None:
    scene.up(D, D2)
    exchange = Exchange(100.0)
    scene.submit(exchange=exchange)
    (first,) = (w for w in ("d", "d2") if scene.links[w].submits)
    other = {"d": "d2", "d2": "d"}[first]
    scene.clock.advance(5)
    scene.lose(first)
    scene.clock.advance(5)
    word(scene, other, "r.1.s", queue_s=1, compute_s=2)
    exchange.written(111.0)
    assert seconds(exchange.split) == {"prefill_queue": 6, "prefill_compute": 2, "delivery": 3}


async def test_time_per_token_is_told_at_the_end(scene: Scene) -> None:
    scene.up(D)
    exchange = Exchange(100.0)
    scene.submit(exchange=exchange)
    word(scene, "d", "r.0.s", stepped=50.0)
    exchange.written(101.0)
    scene.front.tokens["r"] = [1, 2, 3, 4, 5]
    scene.clock.advance(12)
    scene.frame("d", done="r.0.s", steps_s=58.0)
    assert scene.sample("baton_tpot_part_seconds_count", part="step") == 0
    exchange.written(117.0)
    found = {p: scene.sample("baton_tpot_part_seconds_sum", part=p) for p in PARTS}
    assert found == pytest.approx({"step": 2.0, "frame_wait": 1.0, "write": 1.0})


PARTS = ("step", "frame_wait", "write")


async def test_the_steps_of_a_lost_worker_count_too(scene: Scene) -> None:
    scene.up(D, D2)
    scene.submit()
    (first,) = (w for w in ("d", "d2") if scene.links[w].submits)
    other = {"d": "d2", "d2": "d"}[first]
    word(scene, first, "r.0.s", stepped=5.0)
    scene.clock.advance(4)
    scene.frame(first, steps_s=8.0)
    scene.front.tokens["r"] = [1, 2, 3]
    scene.lose(first)
    word(scene, other, "r.1.s", stepped=100.0)
    scene.clock.advance(4)
    scene.frame(other, done="r.1.s", steps_s=103.0)
    # Without a front end that tells, the split is known at the end.
    assert scene.sample("baton_ttft_part_seconds_count", part="delivery") == 1
    found = {p: scene.sample("baton_tpot_part_seconds_sum", part=p) for p in PARTS}
    assert found == pytest.approx({"step": 3.0, "frame_wait": 1.0, "write": 0.0})


async def test_what_a_worker_does_after_its_attempt_is_not_a_requests(scene: Scene) -> None:
    scene.up(D, D2)
    scene.submit()
    (first,) = (w for w in ("d", "d2") if scene.links[w].submits)
    other = {"d": "d2", "d2": "d"}[first]
    word(scene, first, "r.0.s", stepped=5.0)
    scene.front.tokens["r"] = [1, 2, 3]
    scene.clock.advance(4)
    scene.frame(first, ended=[("r.0.s", "engine_failed", 0.0)], steps_s=8.0)
    # It lives on and steps for others.
    scene.clock.advance(4)
    scene.frame(first, steps_s=12.0)
    word(scene, other, "r.1.s", stepped=100.0)
    scene.clock.advance(4)
    scene.frame(other, done="r.1.s", steps_s=103.0)
    found = {p: scene.sample("baton_tpot_part_seconds_sum", part=p) for p in PARTS}
    assert found == pytest.approx({"step": 3.0, "frame_wait": 3.0, "write": 0.0})


@pytest.mark.parametrize("late", [True, False])
async def test_parts_are_traced_with_the_workers_of_the_first_token(
    scene: Scene, *, late: bool
) -> None:
    told: list[Traced] = []
    scene.up(D, D2)
    scene.submit(trace=Trace(SpanContext(1, 2), None, lambda _, one: told.append(one)))
    (first,) = (w for w in ("d", "d2") if scene.links[w].submits)
    other = {"d": "d2", "d2": "d"}[first]
    if late:
        word(scene, first, "r.0.s")
        scene.front.tokens["r"] = [1, 2, 3]
    scene.lose(first)
    word(scene, other, "r.1.s")
    scene.frame(other, done="r.1.s")
    (one,) = told
    assert one.workers["decode"] == other
    # Parts before the first token that are of both attempts name nobody.
    assert one.workers.get("prefill_compute") == (first if late else None)


async def test_nothing_is_told_of_a_client_that_left_before(scene: Scene) -> None:
    scene.up(info("d", Role.DECODE))
    scene.submit(exchange=Exchange(100.0))
    word(scene, "d", "r.0.s")
    scene.heart.abort(["r"])
    assert scene.sample("baton_ttft_part_seconds_count", part="delivery") == 0
    assert "first token" not in (scene.heart.story("r") or "")
