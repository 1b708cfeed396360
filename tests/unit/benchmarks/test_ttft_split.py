"""The benchmark's own sums, and how its client reads an answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import ttft_split_client
from benchmarks.stolen import Stolen
from benchmarks.ttft_split import figures
from benchmarks.ttft_split_client import Client, Seen
from router.split import Part, Span, Split

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def seen(ttft_s: float, total_s: float, sent_at: float = 0.0) -> Seen:
    split = Split(0.0, (Span(Part.ADMISSION_QUEUE, total_s - 0.1), Span(Part.DELIVERY, 0.1)))
    return Seen(ttft_s, {part.value: split.seconds(part) for part in Part}, sent_at)


def test_a_gap_counts_in_both_directions_and_may_be_two_of_a_hundred() -> None:
    found = figures(
        [seen(0.5, 0.5), seen(0.2, 0.203), seen(1.0, 0.985), seen(0.1, 0.0985)], Stolen()
    )
    assert (found["requests"], found["max_gap_ms"], found["p99_gap_pct"]) == (4, 15.0, 1.5)
    assert found["within"] == 1.0
    assert figures([seen(0.1, 0.1025)], Stolen())["within"] == 0.0
    assert found["parts_mean_ms"]["delivery"] == 100.0


@pytest.mark.parametrize("at", [10.005, 10.995])
def test_a_gap_in_which_a_core_was_taken_away_is_judged_apart(at: float) -> None:
    stolen = Stolen([(at, at + 0.05)])
    found = figures([seen(1.0, 0.95, 10.0), seen(1.0, 0.999, 20.0)], stolen)
    assert (found["within"], found["undisturbed"]["within"]) == (0.5, 1.0)
    assert (found["requests"], found["undisturbed"]["requests"]) == (2, 1)


def test_a_core_taken_away_while_the_parts_add_up_excuses_nothing() -> None:
    stolen = Stolen([(10.4, 10.6)])
    assert figures([seen(1.0, 0.95, 10.0)], stolen)["undisturbed"]["within"] == 0.0


class Transport:
    """Answers with what comes in pieces."""

    def __init__(self, client: Client, pieces: list[bytes]) -> None:
        self._client = client
        self._pieces = pieces

    def write(self, _message: bytes) -> None:
        for piece in self._pieces:
            asyncio.get_running_loop().call_soon(self._client.data_received, piece)


async def test_the_first_events_bytes_are_the_first_token(monkeypatch: Any) -> None:
    readings = iter([10.0, 11.0, 12.5, 13.0, 14.0])
    clock = SimpleNamespace(monotonic=lambda: next(readings))
    monkeypatch.setattr(ttft_split_client, "time", clock)
    header = Split(0.0, (Span(Part.DELIVERY, 0.012),)).header().encode()
    events = [b"3\r\ndata: {}\n\n", b": x-baton-split " + header + b"\n\n", b"data: x\r\n0\r\n\r\n"]
    client = Client("127.0.0.1", 1)
    client._transport = Transport(client, [HEAD, *events])
    found = await client.ask("Hi")
    # Sent at 10, the headers at 11.
    assert found.ttft_s == 2.5
    assert sum(found.parts.values()) == 0.012
    assert found.gap_s == pytest.approx(found.ttft_s - 0.012)


async def test_a_refusal_is_no_answer() -> None:
    client = Client("127.0.0.1", 1)
    client._transport = Transport(client, [b"HTTP/1.1 429 Busy\r\n\r\n{}0\r\n\r\n"])
    with pytest.raises(RuntimeError, match="429"):
        await client.ask("Hi")
