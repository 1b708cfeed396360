"""One request on its way through the cluster: which legs it has, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.job import Job, Record
from simulator.traces.request import Request
from simulator.wire import Stream

if TYPE_CHECKING:
    from simulator.fleet import Worker


class Flight:
    """Owned by the cluster. `attempt` tells events of an earlier attempt from current ones."""

    __slots__ = (
        "attempt",
        "computing",
        "computing_at",
        "decoding",
        "decoding_at",
        "generated",
        "record",
        "request",
        "stream",
    )

    def __init__(self, request: Request, router: int) -> None:
        self.request = request
        self.record = Record(request, router)
        self.attempt = 0
        self.generated = 0
        """Tokens of the answer that the client has from attempts that were lost."""
        self.computing: Job | None = None
        self.computing_at: Worker | None = None
        self.decoding: Job | None = None
        """The leg that answers, which may compute the prompt, too."""
        self.decoding_at: Worker | None = None
        self.stream: Stream | None = None

    @property
    def prompt_tokens(self) -> int:
        """What has to be in the KV memory before the next token."""
        return self.request.input_tokens + self.generated


def flight_of(job: Job) -> Flight:
    """The request that a leg belongs to."""
    flight = job.flight
    assert isinstance(flight, Flight)
    return flight
