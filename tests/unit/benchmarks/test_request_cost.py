"""What `benchmarks.request_cost` asks of a router: each request is sent on at once, none stays."""

from __future__ import annotations

import pytest

from baton.wire import worker_pb2 as pb
from benchmarks import metrics_world
from benchmarks.request_cost import Asked


def test_each_request_is_sent_on_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    send = metrics_world.Link.send

    def noted(link: metrics_world.Link, message: pb.RouterMessage) -> None:
        sent.append(str(message.WhichOneof("message")))
        send(link, message)

    monkeypatch.setattr(metrics_world.Link, "send", noted)
    one = Asked(3)
    sent.clear()
    for _ in range(5):
        one.ask()
    # Two workers have each of them: one computes, one waits for the KV.
    assert (sent.count("submit"), sent.count("probe")) == (10, 0)
    assert len(one.spent_us) == 5
    assert one.played.heart.inflight == 0
