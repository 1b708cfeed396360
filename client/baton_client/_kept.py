"""What a client has open, so that it can be ended with the client."""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from grpc import aio

from baton_client.errors import RequestCancelledError

C = TypeVar("C")


class Ends(Protocol):
    """A stream, as far as it is ended from here."""

    def cancel(self) -> None:
        """Stop it, whoever reads it."""


class Kept(Generic[C]):
    """The channels and streams of one client, from any thread. It keeps none of them alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channels: weakref.WeakSet[C] = weakref.WeakSet()
        self._streams: weakref.WeakSet[Ends] = weakref.WeakSet()
        self.closed = threading.Event()
        """Set once the client is closed."""

    def check_open(self) -> None:
        """Raises RequestCancelledError once the client is closed."""
        if self.closed.is_set():
            raise RequestCancelledError("the client is closed")

    @contextmanager
    def calling(self) -> Iterator[None]:
        """For the start of a call whose channel may be closed with the client meanwhile.

        Raises RequestCancelledError then.
        """
        try:
            yield
        except (ValueError, aio.UsageError):
            self.check_open()
            raise

    @contextmanager
    def making(self) -> Iterator[None]:
        """While a stub is made of a channel: the channel is not closed with the client meanwhile.

        gRPC ends the process where a stub is made of one that is. Raises RequestCancelledError.
        """
        with self._lock:
            self.check_open()
            yield

    def channel(self, make: Callable[[], C]) -> C:
        """A new channel. Raises RequestCancelledError once the client is closed."""
        with self.making():
            made = make()
            self._channels.add(made)
            return made

    def stream(self, stream: Ends) -> None:
        """Note a new stream, of which nothing has been asked yet."""
        with self._lock:
            self._streams.add(stream)

    def close(self) -> list[C]:
        """Let nothing new begin, and cancel the streams; the channels that are to be closed."""
        with self._lock:
            self.closed.set()
            streams, channels = list(self._streams), list(self._channels)
        for stream in streams:
            stream.cancel()
        return channels
