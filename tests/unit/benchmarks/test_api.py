"""What `benchmarks.api` makes of what it has measured."""

from __future__ import annotations

import pytest

from benchmarks.api import FULL, QUICK, AloneWay, GrpcWay, Served, Size, Way, result, ways
from benchmarks.api_client import Players


def served(way: Way, cost_us: float, tokens_per_s: float) -> Served:
    one = Served(way, (), None, Players([]), [cost_us], [0.0], [2 * cost_us], [0.0])
    one.tokens_per_s.append(tokens_per_s)
    one.first_ms.append(3.0)
    return one


def figures() -> dict[str, float]:
    """HTTP at 100 us per token and 10,000 tokens/s, and the rest of what a short run measures."""
    seen = [
        served(AloneWay("rust_alone"), 8.0, 200_000.0),
        served(Way("http"), 100.0, 10_000.0),
        served(GrpcWay("grpc"), 60.0, 18_000.0),
        served(GrpcWay("direct", direct=True), 7.0, 90_000.0),
        served(Way("two_processes", routers=2), 104.0, 19_000.0),
    ]
    return result(seen, 1.0, QUICK)


def test_costs_are_told_as_parts_of_plain_http() -> None:
    seen = figures()
    ratios = {name: seen[f"{name}_cpu_ratio"] for name in ("grpc", "direct", "two_process")}
    assert ratios == {"grpc": 0.6, "direct": 0.07, "two_process": 1.04}
    assert seen["http_added_ttft_ms"] == 2.0


def test_the_rate_per_router_is_of_tokens_that_passed_one() -> None:
    assert figures()["tokens_per_s_per_router"] == 18_000.0


@pytest.mark.parametrize("size", [QUICK, FULL])
def test_plain_http_and_grpc_share_a_router(size: Size) -> None:
    routers = {way.name: way.key for way in ways(size)}
    assert routers["http"] == routers["grpc"]
    # With several at a port and those that let tokens past them, each has its own.
    assert len(set(routers.values())) == len(routers) - 1


def test_direct_and_grpc_streams_differ_by_who_brings_the_tokens() -> None:
    carried = {way.name: way.carries for way in ways(QUICK)}
    assert [name for name, carries in carried.items() if not carries] == ["rust_alone", "direct"]
