"""Messages of a router to a worker that travel as one."""

from __future__ import annotations

from collections.abc import Sequence

from baton.wire import worker_pb2 as pb


def joined(messages: Sequence[pb.RouterMessage]) -> pb.RouterMessage:
    """One message that says all of these; at least one, and none of them joined already."""
    if len(messages) == 1:
        return messages[0]
    return pb.RouterMessage(batch=pb.Batch(messages=messages))


def each(message: pb.RouterMessage) -> Sequence[pb.RouterMessage]:
    """What it says, in order."""
    return message.batch.messages if message.HasField("batch") else (message,)
