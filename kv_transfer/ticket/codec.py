"""The messages of a ticket as bytes: version, kind, then a msgpack array of the fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from kv_transfer.ticket.messages import (
    Alive,
    Closed,
    Message,
    Register,
    TicketKey,
    Withdraw,
    Written,
)

VERSION = 2
MESSAGE_BYTES_MAX = 4 * 1024 * 1024


class MalformedMessageError(ValueError):
    """Bytes that are no message of this version."""


_KINDS: Mapping[type[Message], int] = {
    Register: 1,
    Withdraw: 2,
    Written: 3,
    Closed: 4,
    Alive: 5,
}
_MESSAGES: Mapping[int, type[Message]] = {kind: message for message, kind in _KINDS.items()}
_FIELDS: Mapping[int, msgspec.msgpack.Decoder[Any]] = {
    1: msgspec.msgpack.Decoder(tuple[str, int, int, tuple[int, ...], int, float]),
    2: msgspec.msgpack.Decoder(tuple[str, int]),
    3: msgspec.msgpack.Decoder(tuple[str, int, int, int, int, int, tuple[int, ...], int, int]),
    4: msgspec.msgpack.Decoder(tuple[str, int, str | None, int]),
    5: msgspec.msgpack.Decoder(tuple[str, int, bool]),
}


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    kind = bytes((VERSION, _KINDS[type(message)]))
    return kind + msgspec.msgpack.encode(
        (message.key.ticket_id, message.key.epoch, *_tail(message))
    )


def decode(data: bytes) -> Message:
    """The message. Raises MalformedMessageError for anything that `encode` did not make."""
    if not 2 < len(data) <= MESSAGE_BYTES_MAX or data[0] != VERSION or data[1] not in _FIELDS:
        raise MalformedMessageError(f"{len(data)} bytes that start with {data[:2].hex()}")
    try:
        ticket_id, epoch, *tail = _FIELDS[data[1]].decode(data[2:])
        return _MESSAGES[data[1]](TicketKey(ticket_id, epoch), *tail)
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedMessageError(str(error)) from error


def _tail(message: Message) -> tuple[Any, ...]:
    """The fields after the key, in the order of the constructor."""
    match message:
        case Register(_, first, blocks, total, write_deadline_s):
            return first, blocks, total, write_deadline_s
        case Withdraw():
            return ()
        case Written(_, source_epoch, rank, first, count, sums, layer, layers):
            return source_epoch, rank, first, count, sums, layer, layers
        case Closed(_, reason, rank):
            return reason, rank
        case Alive(_, begun):
            return (begun,)
