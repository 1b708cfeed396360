"""The way of KV from prefill to decode workers: who sends when, and when all has landed.

Each worker sends one thing at a time and receives one thing at a time. KV may leave as soon as it
is computed and the decode worker has memory for it; what has not arrived when the prompt has been
computed is the exposed part of the transfer.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from baton.ids import WorkerId
from simulator.rules import NetworkRules


@dataclass(slots=True)
class Stream:
    """The KV of one request on its way. Counts tokens of the prompt."""

    source: WorkerId
    target: WorkerId
    same_host: bool
    computed: int = 0
    """Tokens whose KV is complete at the source."""
    whole: bool = False
    """Whether that is the whole prompt."""
    open: bool = False
    """Whether the target has memory for it."""
    sent: int = 0
    """Tokens that are at the target, or on their way to it."""
    landed_s: float = 0.0


class Wires:
    """The links of all workers. Calls come in order of time."""

    def __init__(self, rules: NetworkRules, kv_bytes_per_token: int) -> None:
        self._rules = rules
        self._near_s = kv_bytes_per_token / rules.host_bytes_per_s
        self._far_s = kv_bytes_per_token / rules.bytes_per_s
        self._sends_s: defaultdict[WorkerId, float] = defaultdict(float)
        self._receives_s: defaultdict[WorkerId, float] = defaultdict(float)
        self.moved_tokens = 0

    def push(self, stream: Stream, now: float, began_s: float) -> None:
        """Sends what can be sent now. Its computation began at `began_s` (now = it is not new).

        Layers leave one by one: the first after its part of the time, the last not before the end.
        """
        if not stream.open or not (stream.whole or self._rules.streamed):
            return
        tokens = stream.computed - stream.sent
        if tokens <= 0:
            stream.landed_s = max(stream.landed_s, now)
            return
        took_s = tokens * (self._near_s if stream.same_host else self._far_s)
        layers = self._rules.layers if self._rules.streamed else 1
        first_s = began_s + (now - began_s) / layers
        free_s = max(self._sends_s[stream.source], self._receives_s[stream.target], first_s)
        stream.landed_s = max(free_s + took_s, now + took_s / layers)
        self._sends_s[stream.source] = self._receives_s[stream.target] = stream.landed_s
        self.moved_tokens += tokens
        stream.sent = stream.computed

    def arrival_s(self, stream: Stream) -> float:
        """When decode can use a stream that has been sent whole."""
        return stream.landed_s + self._rules.latency_s

    def backlog_s(self, source: WorkerId, now: float) -> float:
        """How long a worker will still be sending."""
        return max(self._sends_s[source] - now, 0.0)
