"""Endpoints survive the wire, unlike engines do not pair, and indices point where blocks lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import BatonError, Reason
from kv_transfer.endpoint import (
    Blocks,
    Endpoint,
    Layout,
    Region,
    check_pair,
    decode_endpoint,
    encode_endpoint,
    joined,
)
from kv_transfer.liveness import ProcessName

_NUMBERS = st.integers(0, 2**63 - 1)
_TEXTS = st.text(max_size=8)
_REGIONS = st.lists(st.builds(Region, _NUMBERS, _NUMBERS, _NUMBERS), max_size=2).map(tuple)
_LAYOUTS = st.builds(Layout, _REGIONS, _NUMBERS, _NUMBERS, _TEXTS, _NUMBERS, _TEXTS, _NUMBERS)
_PROCESSES = st.builds(ProcessName, _TEXTS, _NUMBERS, _NUMBERS)
RANKS = st.builds(
    Endpoint, _TEXTS, st.binary(max_size=16), _LAYOUTS, _PROCESSES, others=st.just(())
)
ENDPOINTS = st.builds(
    lambda one, others: replace(one, others=tuple(others)), RANKS, st.lists(RANKS, max_size=2)
)

LAYOUT = Layout((Region(1000, 64, 48), Region(5000, 32, 32)), 3, 16, "DRAM", 0, "bf16")


@given(ENDPOINTS)
def test_an_endpoint_survives_the_wire(endpoint: Endpoint) -> None:
    assert decode_endpoint(encode_endpoint(endpoint)) == endpoint


@given(st.binary(max_size=64))
def test_garbage_is_refused_with_a_typed_error(data: bytes) -> None:
    with pytest.raises(BatonError) as caught:
        decode_endpoint(data)
    assert caught.value.reason is Reason.TRANSFER_FAILED


def test_a_cut_endpoint_is_refused() -> None:
    whole = encode_endpoint(Endpoint("baton-1", b"\x00meta", LAYOUT, ProcessName("host", 1, 2)))
    for cut in range(len(whole)):
        with pytest.raises(BatonError):
            decode_endpoint(whole[:cut])


def test_equal_layouts_pair_wherever_their_memory_lies() -> None:
    moved = tuple(replace(r, base=r.base + 77, stride=r.stride * 2) for r in LAYOUT.regions)
    check_pair(LAYOUT, LAYOUT)
    check_pair(LAYOUT, replace(LAYOUT, regions=moved, blocks=9, device=1))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fingerprint": "fp8"}, "fingerprint is fp8 there and bf16 here"),
        ({"block_tokens": 32}, "block_tokens"),
        ({"memory": "VRAM"}, "memory"),
        ({"layers": 2}, "layers is 2 there and 1 here"),
        ({"ranks": 2}, "ranks is 2 there and 1 here"),
        ({"rank": 1}, "rank is 1 there and 0 here"),
        ({"regions": LAYOUT.regions[:1]}, "size"),
        ({"regions": (Region(1000, 64, 64), Region(5000, 32, 32))}, "size"),
    ],
)
def test_unlike_layouts_are_refused_by_name(change: dict[str, object], word: str) -> None:
    with pytest.raises(BatonError, match=word) as caught:
        check_pair(LAYOUT, replace(LAYOUT, **change))
    assert caught.value.reason is Reason.CONFIG_MISMATCH


# --- several ranks --------------------------------------------------------------------------------


def _ranks(count: int) -> dict[int, Endpoint]:
    layouts = {rank: replace(LAYOUT, rank=rank, ranks=count) for rank in range(count)}
    process = ProcessName("host", 1, 2)
    return {r: Endpoint("engine", b"%d" % r, layout, process) for r, layout in layouts.items()}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_engine_s_endpoint_has_that_of_each_rank(count: int) -> None:
    ranks = _ranks(count)
    published = decode_endpoint(encode_endpoint(joined(dict(reversed(ranks.items())))))
    for rank, endpoint in ranks.items():
        assert replace(published.of_rank(rank, count), others=()) == endpoint


def test_a_rank_that_introduces_itself_is_found_without_the_others() -> None:
    one = _ranks(3)[2]
    assert one.of_rank(2, 3) is one
    with pytest.raises(BatonError, match="leaves out rank 1"):
        one.of_rank(1, 3)


@pytest.mark.parametrize(("there", "here"), [(1, 2), (2, 1), (2, 4)])
def test_another_tensor_parallel_size_is_refused_with_what_to_do(there: int, here: int) -> None:
    published = joined(_ranks(there))
    with pytest.raises(BatonError, match=f"is {there} there and {here} here.*nixl-pull") as caught:
        published.of_rank(0, here)
    assert caught.value.reason is Reason.CONFIG_MISMATCH


@pytest.mark.parametrize("missing", [0, 1])
def test_an_engine_whose_rank_is_missing_publishes_nothing(missing: int) -> None:
    ranks = _ranks(2)
    del ranks[missing]
    with pytest.raises(ValueError, match="whole engine"):
        joined(ranks)


def test_descriptors_follow_the_stride_and_cover_the_size() -> None:
    assert LAYOUT.descriptors() == [
        (1000, 48, 0),
        (1064, 48, 0),
        (1128, 48, 0),
        (5000, 32, 0),
        (5032, 32, 0),
        (5064, 32, 0),
    ]
    assert LAYOUT.block_bytes == 80


@given(st.lists(st.integers(0, 2), max_size=5))
def test_indices_name_these_blocks_in_every_region(blocks: list[int]) -> None:
    descriptors = LAYOUT.descriptors()
    named = [descriptors[i] for i in LAYOUT.indices(blocks, 0, 1)]
    expected = [(r.base + b * r.stride, r.size, 0) for r in LAYOUT.regions for b in blocks]
    assert named == expected


@pytest.mark.parametrize("each", [1, 2, 3])
@given(st.lists(st.integers(0, 2), max_size=4), st.integers(0, 3), st.integers(1, 4))
def test_indices_name_the_regions_of_these_layers_alone(
    each: int, blocks: list[int], layer: int, layers: int
) -> None:
    layers = min(layers, 4 - layer)
    regions = tuple(Region(1000 * i, 64, 48) for i in range(4 * each))
    layout = replace(LAYOUT, regions=regions, layers=4)
    descriptors = layout.descriptors()
    named = [descriptors[i] for i in layout.indices(blocks, layer, layers)]
    some = regions[layer * each : (layer + layers) * each]
    assert named == [(r.base + b * r.stride, r.size, 0) for r in some for b in blocks]


# --- what one write moves -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "targets", "runs"),
    [
        ((5,), (9,), 1),
        ((5, 6, 7), (1, 2, 3), 1),
        ((5, 6, 7), (1, 2, 4), 2),
        ((5, 6, 8), (1, 2, 3), 2),
        ((5, 6, 8), (1, 3, 4), 3),
        ((7, 6, 5), (3, 2, 1), 3),
        ((1, 2, 6, 7), (1, 2, 6, 7), 2),
    ],
)
def test_neighbours_on_both_sides_are_one_run(
    sources: tuple[int, ...], targets: tuple[int, ...], runs: int
) -> None:
    assert Blocks(sources, targets, 0, 1).runs() == runs
    assert Blocks(sources, targets, 3, 2).runs() == runs


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_runs_are_what_is_left_when_neighbours_are_joined(pairs: list[tuple[int, int]]) -> None:
    together: list[list[tuple[int, int]]] = []
    for source, target in pairs:
        if together and together[-1][-1] == (source - 1, target - 1):
            together[-1].append((source, target))
        else:
            together.append([(source, target)])
    sources, targets = zip(*pairs, strict=True)
    assert Blocks(sources, targets, 0, 1).runs() == len(together)
