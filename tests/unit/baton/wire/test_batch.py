"""Messages that travel as one."""

import pytest

from baton.wire import worker_pb2 as pb
from baton.wire.batch import each, joined


def abort(leg_id: str) -> pb.RouterMessage:
    return pb.RouterMessage(abort=pb.Abort(leg_ids=[leg_id]))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_they_arrive_as_they_were(count: int) -> None:
    messages = [abort(f"leg-{i}") for i in range(count)]
    read = pb.RouterMessage.FromString(joined(messages).SerializeToString())
    assert list(each(read)) == messages


def test_one_alone_is_not_wrapped() -> None:
    message = pb.RouterMessage(resync=pb.Resync())
    assert joined([message]) is message
