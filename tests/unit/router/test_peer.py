"""What a worker has said of itself, which is looked at when somebody asks."""

from __future__ import annotations

import math

from baton.ids import Leg, LegId, RequestId, WorkerId
from baton.messages import WorkerLoad
from baton.wire import worker_pb2 as pb
from router.life import OpenLeg
from router.peer import Peer, Standing
from tests.fakes.worker import info
from tests.unit.router.fakes import FakeLink

EMPTY = Standing(False, 0, 0, 0, 0, 0.0, 0.0)


def peer() -> Peer:
    return Peer(info(), FakeLink(info()))


def leg(request: str) -> OpenLeg:
    return OpenLeg(LegId(RequestId(request), 0, Leg.SOLO), WorkerId("w"))


def test_the_latest_report_counts() -> None:
    one = peer()
    assert one.load == WorkerLoad()
    for running in (1, 2):
        one.heard(0.0, pb.Load(running=running, steps_s=running / 2))
    assert (one.load.running, one.stepped_s) == (2, 1.0)
    one.heard(0.0, None)
    assert one.load.running == 2
    assert one.load is one.load


def test_a_lost_link_leaves_nothing_but_the_total_of_steps() -> None:
    one = peer()
    one.heard(0.0, pb.Load(running=3, steps_s=1.5))
    one.down()
    assert (one.load, one.stepped_s, one.up) == (WorkerLoad(), 1.5, False)


def test_what_cannot_be_true_is_nothing() -> None:
    one = peer()
    one.heard(0.0, pb.Load(kv_used=7.0, queue_s=-1.0, steps_s=math.nan))
    assert (one.load.kv_used, one.load.queue_s, one.stepped_s) == (1.0, 0.0, 0.0)


def test_what_a_new_request_would_find_is_as_new_as_the_last_word() -> None:
    one, most = peer(), 4
    whole = one.info.kv_blocks * one.info.block_size_tokens
    assert (one.standing, one.open, one.has_room(most)) == (EMPTY, False, False)
    one.heard(10.0, pb.Load(running=2, waiting=1, kv_used=0.5, queued_prompt_tokens=7, queue_s=3.0))
    assert one.standing == Standing(False, 1, 3, 7, round(whole / 2) + 7, 3.0, 0.0)
    one.took(leg("a"), 20, 1.5)
    assert one.standing == Standing(False, 2, 4, 27, round(whole / 2) + 27, 3.0, 1.5)
    assert (one.queue_s(10.0), one.queue_s(12.0), one.queue_s(20.0)) == (4.5, 2.5, 1.5)
    one.promise(RequestId("b"), 100)
    assert one.standing[1:4] == (3, 5, 127)
    one.promise(RequestId("c"), 1)
    assert (one.standing.queued, one.has_room(most), one.has_room(most + 1)) == (4, False, True)
    one.promise(RequestId("c"), None)
    assert (one.standing.queued, one.has_room(most)) == (3, True)
    one.heard(11.0, pb.Load(running=1, draining=True))
    assert (one.standing.queued, one.open, one.has_room(most)) == (2, False, False)
    one.heard(12.0, None)
    one.promise(RequestId("b"), None)
    assert one.standing == EMPTY._replace(draining=True, batch=1)
    one.down()
    assert one.standing == EMPTY


def test_a_worker_that_is_taken_away_has_no_room() -> None:
    one = peer()
    one.heard(0.0, None)
    assert one.has_room(1)
    assert not one.has_room(0)
    one.draining = True
    assert not one.has_room(1)
