"""Loads: mixes, traces and what makes them fit."""

import argparse
import itertools
import json
from pathlib import Path

import pytest

from baton.errors import StartupError
from deploy.bench.command import load, warmup
from deploy.bench.load import Size, fitted, mixed, parse_mix, read_trace, shaped
from deploy.bench.options import add
from simulator.traces.request import Request, Trace

MOONCAKE = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
BAILIAN = {
    "chat_id": 7,
    "parent_chat_id": -1,
    "timestamp": 0.5,
    "input_length": 16,
    "output_length": 3,
    "type": "text",
    "turn": 1,
    "hash_ids": [9],
}


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add(parser)
    return parser.parse_args(words)


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_mix_has_sizes_and_weights() -> None:
    assert parse_mix("512:128*3, 4096:256") == [Size(512, 128, 3.0), Size(4096, 256, 1.0)]


@pytest.mark.parametrize("text", ["", "512", "512:0", "a:b", "1:1*0", "1:1*nan", "1:1,,"])
def test_what_is_no_mix(text: str) -> None:
    with pytest.raises(StartupError):
        parse_mix(text)


def test_a_mix_arrives_at_random_at_its_rate_and_its_weights() -> None:
    trace = mixed("600:20*3,100:10", 20.0, 100.0, seed=1)
    again = mixed("600:20*3,100:10", 20.0, 100.0, seed=1)
    assert trace == again != mixed("600:20*3,100:10", 20.0, 100.0, seed=2)
    assert len(trace.requests) == pytest.approx(2000, rel=0.1)
    arrivals = [r.arrival_s for r in trace.requests]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < 100
    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    # As many gaps are longer than the mean as a Poisson process has: e**-1.
    assert sum(gap > 0.05 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.05)
    long = sum(r.input_tokens == 600 for r in trace.requests)
    assert long / len(trace.requests) == pytest.approx(0.75, abs=0.05)
    keys = [key for r in trace.requests for key in r.blocks]
    assert len(keys) == len(set(keys))


def test_sessions_share_their_prefixes_and_come_at_the_rate() -> None:
    trace = mixed("chat", 10.0, 30.0, seed=1)
    assert trace.per_second == pytest.approx(10.0)
    keys = [key for r in trace.requests for key in r.blocks]
    assert len(set(keys)) < len(keys)


@pytest.mark.parametrize("kind", ["chat", "agents"])
def test_sessions_are_under_way_from_the_beginning(kind: str) -> None:
    trace = mixed(kind, 10.0, 120.0, seed=1)
    assert [r.number for r in trace.requests] == list(range(1201))
    quarters = [0] * 4
    for request in trace.requests:
        quarters[min(int(request.arrival_s / 30), 3)] += 1
    assert quarters == pytest.approx([300] * 4, rel=0.2)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e9])
def test_a_rate_that_cannot_be_sent(rate: float) -> None:
    with pytest.raises(StartupError):
        mixed("1:1", rate, 10.0, 0)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (json.dumps(MOONCAKE), 600),
        (json.dumps(BAILIAN), 16),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44", 374),
        ("Timestamp,Model,Request tokens,Response tokens\n5,ChatGPT,472,18", 472),
    ],
)
def test_the_format_is_told_from_the_first_line(tmp_path: Path, text: str, tokens: int) -> None:
    path = tmp_path / "trace"
    path.write_text(text + "\n")
    (request,) = read_trace(path, None, None).requests
    assert request.input_tokens == tokens


def test_what_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("hello\n")
    with pytest.raises(StartupError, match="no known format"):
        read_trace(path, None, None)
    with pytest.raises(StartupError, match="no-such-file"):
        read_trace(tmp_path / "no-such-file", None, None)
    with pytest.raises(StartupError, match="trace:1"):
        read_trace(path, "mooncake", None)


def test_a_trace_keeps_its_timing_or_is_stretched(tmp_path: Path) -> None:
    rows = [{**MOONCAKE, "timestamp": 1000 * second} for second in (5, 6, 9)]
    trace = read_trace(lines(tmp_path / "t", *rows), None, None)
    assert [r.arrival_s for r in shaped(trace, None, None).requests] == [0.0, 1.0, 4.0]
    assert [r.arrival_s for r in shaped(trace, 1.5, None).requests] == [0.0, 0.5, 2.0]
    assert [r.arrival_s for r in shaped(trace, 1.5, 1.0).requests] == [0.0, 0.5]


def test_what_the_context_cannot_hold_is_shortened() -> None:
    short = Request(0, 0.0, 60, 30, (1,))
    long = Request(1, 1.0, 2000, 90, (1, 2, 3, 4))
    trace, changed = fitted(Trace("t", (short, long)), 100)
    assert changed == 1
    assert trace.requests[0] == short
    assert (trace.requests[1].input_tokens, trace.requests[1].output_tokens) == (50, 50)
    assert trace.requests[1].blocks == (1,)
    assert fitted(trace, None) == (trace, 0)
    # What fits is left alone, however its tokens are divided.
    fits = Trace("t", (Request(0, 0.0, 10, 90, (1,)), Request(1, 0.0, 99, 1, (2,))))
    assert fitted(fits, 100) == (fits, 0)
    over = Trace("t", (Request(0, 0.0, 10, 95, (1,)),))
    assert fitted(over, 100)[0].requests[0] == Request(0, 0.0, 10, 90, (1,))
    # Nothing is left to a prompt but what the endpoint adds to it: the answer gives way.
    assert fitted(Trace("t", (short, long)), 100, least=80)[0].requests[1].output_tokens == 20


def test_the_window_is_as_long_as_the_load(tmp_path: Path) -> None:
    path = lines(tmp_path / "t", *({**MOONCAKE, "timestamp": 1000 * s} for s in (0, 2, 8)))
    assert load(arguments("--trace", str(path)))[1] == 8
    assert load(arguments("--trace", str(path), "--requests", "2"))[1] == 2
    trace, seconds = load(arguments("--trace", str(path), "--duration", "5"))
    assert (len(trace.requests), seconds) == (2, 5)
    # What lasts longer than the trace has no more requests, and no lower rate.
    trace, seconds = load(arguments("--trace", str(path), "--duration", "60"))
    assert (len(trace.requests), seconds) == (3, 8)
    trace, seconds = load(arguments("--rate", "5", "--duration", "10", "--requests", "3"))
    assert (len(trace.requests), seconds) == (3, trace.requests[-1].arrival_s)
    assert load(arguments())[1] == 30


def test_something_is_left_by_the_warm_up() -> None:
    assert warmup(None, 30.0) == 3.0
    assert warmup(None, 600.0) == 10.0
    assert warmup(0.0, 0.0) == 0.0
    assert warmup(29.0, 30.0) == 29.0
    with pytest.raises(StartupError, match="nothing would be counted"):
        warmup(30.0, 30.0)


def test_a_load_without_a_request(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no request"):
        load(arguments("--rate", "0.001", "--duration", "1"))


@pytest.mark.parametrize("words", [["--rate", "0"], ["--timeout", "x"], ["--max-in-flight", "0"]])
def test_what_is_no_number(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(*words)


def test_requests_of_one_tick_of_a_coarse_clock_do_not_come_at_once(tmp_path: Path) -> None:
    rows = [{**MOONCAKE, "timestamp": 3000 * (number // 5)} for number in range(20)]
    path = lines(tmp_path / "t", *rows)
    came = [r.arrival_s for r in read_trace(path, None, None, 1).requests]
    assert len(set(came)) == 20
    assert all(0 <= at_s - 3 * (n // 5) <= 3 for n, at_s in enumerate(came))
    assert came == [r.arrival_s for r in read_trace(path, None, None, 1).requests]
    recorded = read_trace(path, None, None, None).requests
    assert {r.arrival_s for r in recorded} == {0.0, 3.0, 6.0, 9.0}
