"""What a worker has said of itself, which is looked at when somebody asks."""

from __future__ import annotations

import math

from baton.messages import WorkerLoad
from baton.wire import worker_pb2 as pb
from router.registry import Peer
from tests.fakes.worker import info
from tests.unit.router.fakes import FakeLink


def peer() -> Peer:
    return Peer(info(), FakeLink(info()))


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
