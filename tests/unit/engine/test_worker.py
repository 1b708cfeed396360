"""Legs on a fake engine: intake and step frames."""

from __future__ import annotations

import pytest

from baton.errors import BatonError, Reason
from baton.settings import KvTransferSettings
from baton.wire import worker_pb2 as wire
from engine.ports import LegEnd, StepStats
from engine.role import intake_of
from kv_transfer.handoff import reaches_resumed
from kv_transfer.push import BatonPush
from kv_transfer.vllm_nixl import VllmNixlPull
from prefill_worker import PrefillRole
from tests.fakes.engine import (
    FACTS,
    GARBAGE,
    FakeEngine,
    FakeOutput,
    FakeRequest,
    broken,
    last,
    token,
)
from tests.fakes.worker import HANDED, House, decode, prefill, solo
from tests.unit.engine.hearing import ends, everything, is_empty, news, step

KV = {"blocks": [1]}


# --- intake ---------------------------------------------------------------------------------------


async def test_a_link_hears_the_load_at_once() -> None:
    link = House().worker.open_link("r")
    (frame,) = everything(link)
    assert frame is not None
    assert frame.HasField("load")
    assert frame.sequence == 1


async def test_each_kind_reaches_the_engine_as_its_role_shapes_it() -> None:
    house = House()
    link = house.worker.open_link("r")
    for submit in (prefill("a.0.p"), decode("a.0.d"), solo("b.0.s")):
        await house.worker.submit(link, submit)
    assert [(r.request_id, r.kind, r.kv_params) for r in house.engine.added] == [
        ("a.0.p", "prefill", {"open": "ticket of a.0.p"}),
        ("a.0.d", "decode", {"claim": HANDED}),
        ("b.0.s", "decode", None),
    ]
    assert house.worker.load().waiting == 3
    assert house.worker.load().queued_prompt_tokens == 30


async def test_what_is_resumed_reaches_the_engine() -> None:
    house = House()
    link = house.worker.open_link("r")
    for submit in (prefill("a.0.p"), decode("a.0.d"), solo("b.0.s"), solo("c.0.s")):
        if submit.leg_id != "c.0.s":
            submit.resumed.extend((4, 5))
        await house.worker.submit(link, submit)
    assert [r.resumed for r in house.engine.added] == [(4, 5), (4, 5), (4, 5), ()]


async def test_vllms_connectors_hand_over_the_prompt_alone() -> None:
    handoff = VllmNixlPull(lease_s=30, ucx_tls=None)
    submit = prefill("a.0.p")
    submit.resumed.extend((4, 5))
    found = PrefillRole(handoff).request(FakeEngine(), intake_of(submit))
    assert isinstance(found, FakeRequest)
    assert found.resumed == ()
    assert reaches_resumed(BatonPush(KvTransferSettings()))


def ticketless(submit: wire.Submit) -> wire.Submit:
    submit.ClearField("ticket")
    return submit


@pytest.mark.parametrize(
    ("submit", "reason"),
    [
        (solo("x", payload=GARBAGE), Reason.INVALID_REQUEST),
        (ticketless(prefill("x")), Reason.INVALID_REQUEST),
        (ticketless(decode("x")), Reason.INVALID_REQUEST),
        (decode("x", handed=b""), Reason.TRANSFER_FAILED),
        (solo("x", prompt_tokens=FACTS.max_model_len_tokens + 1), Reason.PROMPT_TOO_LONG),
        (wire.Submit(leg_id="x", request=[b"r"]), Reason.UNSUPPORTED),
        (solo("here"), Reason.DUPLICATE_ID),
    ],
)
async def test_refusals_are_typed_and_leave_nothing(submit: wire.Submit, reason: Reason) -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("here"))
    await house.worker.submit(link, submit)
    assert ends(link) == [(submit.leg_id, reason.value)]
    assert house.worker.tally.refused == 1
    assert house.worker.legs == 1


async def test_a_full_queue_refuses_with_advice_until_a_leg_starts() -> None:
    house = House()
    link = house.worker.open_link("r")
    for number in range(5):
        await house.worker.submit(link, solo(f"l{number}"))
    (ended,) = (e for f in news(link) for e in f.ended)
    assert (ended.leg_id, ended.reason, ended.retry_after_s) == ("l4", "worker_full", 2.5)
    step(house, token("l0"))
    await house.worker.submit(link, solo("l5"))
    assert house.worker.legs == 5


async def test_a_draining_worker_refuses() -> None:
    house = House()
    link = house.worker.open_link("r")
    assert await house.worker.drain(None) == 0
    await house.worker.submit(link, solo("x"))
    assert ends(link) == [("x", Reason.DRAINING.value)]


async def test_an_engine_that_dies_at_the_door_refuses() -> None:
    house = House()
    house.engine.refuse_add = BatonError(Reason.ENGINE_FAILED, "dead")
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("x"))
    assert ends(link) == [("x", Reason.ENGINE_FAILED.value)]
    assert is_empty(house)


async def test_a_leg_that_fails_while_it_is_added_ends_once() -> None:
    house = House()
    link = house.worker.open_link("r")

    async def add(request: object) -> None:
        house.worker.fail(BatonError(Reason.ENGINE_FAILED, "dead"))
        raise BatonError(Reason.ENGINE_FAILED, "dead")

    house.engine.add = add  # type: ignore[method-assign]
    await house.worker.submit(link, solo("x"))
    assert [leg for leg, _ in ends(link)] == ["x"]
    assert is_empty(house)


async def test_a_leg_aborted_while_it_is_added_is_aborted_again_afterwards() -> None:
    house = House()
    link = house.worker.open_link("r")

    async def add(request: object) -> None:
        await house.worker.abort(link, ["x"])

    house.engine.add = add  # type: ignore[method-assign]
    await house.worker.submit(link, solo("x"))
    assert house.engine.aborted == ["x", "x"]
    assert ends(link) == []
    assert is_empty(house)


# --- steps ----------------------------------------------------------------------------------------


async def test_a_finished_prefill_leg_says_what_it_hands_over_and_no_token() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, prefill("a.0.p"))
    step(house, FakeOutput("a.0.p", 7, LegEnd.DONE, KV, cached_tokens=5))
    (frame,) = news(link)
    assert not frame.outputs
    (done,) = frame.prefilled
    assert (done.leg_id, done.handed, done.cached_tokens) == ("a.0.p", b'{"blocks": [1]}', 5)
    assert is_empty(house)
    assert house.worker.tally.finished == 1


async def test_a_prefill_leg_with_nothing_to_hand_over_failed() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, prefill("a.0.p"))
    step(house, last("a.0.p", kv_params=None))
    assert ends(link) == [("a.0.p", Reason.TRANSFER_FAILED.value)]
    assert is_empty(house)


async def test_a_step_is_one_frame_per_link() -> None:
    house = House()
    links = [house.worker.open_link(name) for name in ("r1", "r2")]
    for index, leg in enumerate(("a", "b", "c", "d")):
        await house.worker.submit(links[index % 2], solo(leg))
    step(house, token("a", 1), token("b", 2), token("c", 3), token("d", 4), token("nobody", 5))
    assert [list(f.outputs) for f in news(links[0])] == [[b"a=1", b"c=3"]]
    assert [list(f.outputs) for f in news(links[1])] == [[b"b=2", b"d=4"]]


async def test_tokens_handovers_and_ends_of_one_step_share_a_frame() -> None:
    house = House()
    link = house.worker.open_link("r")
    for submit in (solo("s"), prefill("p"), decode("d")):
        await house.worker.submit(link, submit)
    step(house, token("s", 1), last("p", kv_params=KV), broken("d"))
    (frame,) = news(link)
    assert list(frame.outputs) == [b"s=1"]
    assert [(p.leg_id, p.handed) for p in frame.prefilled] == [
        ("s", b""),
        ("p", b'{"blocks": [1]}'),
    ]
    assert [e.leg_id for e in frame.ended] == ["d"]
    assert frame.load.running == 1


async def test_a_last_token_is_delivered_and_ends_the_leg() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, decode("d"))
    step(house, token("d", 1))
    step(house, last("d", 2))
    step(house, token("d", 3))
    assert [list(f.outputs) for f in news(link)] == [[b"d=1"], [b"d=2"]]
    assert is_empty(house)


@pytest.mark.parametrize("submit", [solo("x"), decode("x")])
async def test_the_first_token_is_announced_once(submit: wire.Submit) -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, submit)
    step(house, FakeOutput("x", 1, cached_tokens=3))
    step(house, token("x", 2))
    told = [[(p.leg_id, p.handed, p.cached_tokens) for p in f.prefilled] for f in news(link)]
    assert told == [[("x", b"", 3)], []]


async def test_a_leg_of_one_token_is_announced_with_it() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("x"))
    step(house, last("x", 1))
    (frame,) = news(link)
    assert list(frame.outputs) == [b"x=1"]
    assert [p.leg_id for p in frame.prefilled] == ["x"]
    assert is_empty(house)


@pytest.mark.parametrize(
    ("submit", "had_token", "end", "reason"),
    [
        (decode("x"), False, LegEnd.FAILED, Reason.TRANSFER_FAILED),
        (decode("x"), True, LegEnd.FAILED, Reason.ENGINE_FAILED),
        (decode("x"), False, LegEnd.ABORTED, Reason.ENGINE_FAILED),
        (solo("x"), False, LegEnd.FAILED, Reason.ENGINE_FAILED),
        (prefill("x"), False, LegEnd.FAILED, Reason.ENGINE_FAILED),
    ],
)
async def test_a_leg_that_the_engine_gives_up_has_its_reason(
    submit: wire.Submit, had_token: bool, end: LegEnd, reason: Reason
) -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, submit)
    if had_token:
        step(house, token("x"))
    step(house, broken("x", end))
    assert ends(link) == [("x", reason.value)]
    assert is_empty(house)
    assert house.worker.tally.failed == 1


async def test_frames_are_numbered_without_a_gap() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("x"))
    for value in range(5):
        step(house, token("x", value))
        house.worker.heartbeat()
    assert [f.sequence for f in everything(link) if f] == list(range(1, 12))


async def test_the_load_carries_the_schedulers_statistics() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("x"))
    house.clock.advance(0.5)
    step(house, token("x"), stats=StepStats(0.25, 100, 60, 1))
    load = news(link)[-1].load
    assert (load.kv_used, load.step_s, load.steps, load.running) == (0.25, 0.5, 1, 1)
    assert (load.prefix_queried_tokens, load.prefix_hit_tokens, load.preemptions) == (100, 60, 1)


async def test_idle_time_is_no_step_time() -> None:
    house = House()
    link = house.worker.open_link("r")
    house.clock.advance(1000)
    await house.worker.submit(link, solo("x"))
    house.clock.advance(0.25)
    step(house, token("x"))
    assert house.worker.load().step_s == pytest.approx(0.25)
