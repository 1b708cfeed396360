"""Traces: read as they are, refused with the line that is wrong."""

import json

import pytest

from simulator.mooncake import TraceError, at_rate, parse


def line(at_ms=0, tokens=1000, blocks=(0, 1)):
    return json.dumps({"timestamp": at_ms, "input_length": tokens, "hash_ids": list(blocks)})


def test_prompts_are_cut_with_their_blocks() -> None:
    (one,) = parse([line(tokens=1500, blocks=(0, 1, 2))], cut_tokens=600)
    assert (one.tokens, len(one.blocks)) == (600, 2)


def test_equal_prefixes_have_equal_keys() -> None:
    first, second = parse([line(blocks=(0, 1)), "", line(blocks=(0, 2))], cut_tokens=9999)
    assert first.blocks[0] == second.blocks[0]
    assert first.blocks[1] != second.blocks[1]
    assert second.number == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no request"),
        ([line(), "{"], "line 2"),
        (["[]"], "line 1"),
        (['{"timestamp": 1}'], "input_length"),
        ([line(at_ms=5), line(at_ms=4)], "line 2: 4 ms comes after 5 ms"),
        ([line(tokens=0)], "line 1"),
        ([line(tokens=2000)], "2 blocks for 2000 tokens"),
        ([line().replace("1000", '"many"')], "line 1"),
        ([line().replace("[0, 1]", "null")], "line 1"),
    ],
)
def test_what_is_wrong_is_named(lines, message) -> None:
    with pytest.raises(TraceError, match=message):
        list(parse(lines, cut_tokens=9999))


def test_a_rate_scales_the_gaps() -> None:
    arrivals = list(parse([line(at_ms=t) for t in (1000, 3000, 5000)], cut_tokens=9999))
    assert [a.at_s for a in at_rate(arrivals, 2.0)] == [0.0, 0.75, 1.5]
