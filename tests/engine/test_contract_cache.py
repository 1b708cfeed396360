"""vLLM's prefix cache and scheduler tell what `engine` takes them to tell. No engine runs here."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config.kv_events import KVEventsConfig
from vllm.distributed.kv_events import (
    MEDIUM_CPU,
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
    EventPublisher,
    EventPublisherFactory,
    NullEventPublisher,
)
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

from baton import prefix_keys
from engine import core, inside
from engine.block_names import BlockNames
from tests.engine.test_contract import parameters, spec

BLOCK = 4
BLOCKS = 12
TOKENS = tuple(range(1, 15))
SPEC = FullAttentionSpec(block_size=BLOCK, num_kv_heads=2, head_size=8, dtype=torch.float32)


class Cache:
    """A KV cache manager of vLLM, and the names of what it says it holds."""

    def __init__(self, enable_caching: bool = True) -> None:
        init_none_hash(sha256)
        self.hasher = get_request_block_hasher(BLOCK, sha256)
        group = KVCacheGroupSpec(["layer"], SPEC)
        self.manager = KVCacheManager(
            KVCacheConfig(BLOCKS, [], [group]),
            max_model_len=100,
            scheduler_block_size=BLOCK,
            hash_block_size=BLOCK,
            enable_caching=enable_caching,
            enable_kv_cache_events=True,
        )
        self.names = BlockNames("m", BLOCK, BLOCKS)
        self.tap = inside.CacheTap(NullEventPublisher(), self.names)
        self.count = 0
        self.held: set[int] = set()

    def request(self, tokens: Sequence[int], **changes: Any) -> Request:
        self.count += 1
        return Request(
            request_id=f"r{self.count}",
            prompt_token_ids=list(tokens),
            sampling_params=SamplingParams(max_tokens=9),
            pooling_params=None,
            block_hasher=self.hasher,
            **changes,
        )

    def compute(self, request: Request, new: int | None = None) -> None:
        """What the scheduler does when it schedules so many tokens of a request."""
        found, cached, _ = self.manager.get_computed_blocks(request)
        first = request.num_computed_tokens == 0
        cached = cached if first else 0
        new = request.num_tokens - request.num_computed_tokens - cached if new is None else new
        blocks = found if first else None
        assert self.manager.allocate_slots(request, new, cached, blocks) is not None
        request.num_computed_tokens += cached + new
        self.hear()

    def run(self, tokens: Sequence[int], **changes: Any) -> None:
        request = self.request(tokens, **changes)
        self.compute(request)
        self.manager.free(request)

    def hear(self) -> None:
        self.tap.publish(EventBatch(0.0, self.manager.take_events()))
        stored, removed = self.names.take()
        self.held = self.held.union(stored).difference(removed)


@pytest.fixture
def cache() -> Cache:
    return Cache()


def keys(tokens: Sequence[int], lora: str = "", salt: str = "") -> set[int]:
    return set(prefix_keys.of_tokens(tokens, BLOCK, prefix_keys.salt("m", lora, salt)))


# --- the cache's events ---------------------------------------------------------------------------


def test_full_blocks_get_the_keys_of_their_tokens(cache: Cache) -> None:
    cache.run(TOKENS)
    assert cache.held == keys(TOKENS)
    assert len(cache.held) == len(TOKENS) // BLOCK


def test_chunks_and_generated_tokens_continue_the_chain(cache: Cache) -> None:
    request = cache.request(TOKENS)
    cache.compute(request, 6)
    assert cache.held == keys(TOKENS[:4])
    cache.compute(request)
    for token in (90, 91, 92):
        request.append_output_token_ids(token)
        cache.compute(request)
    assert cache.held == keys((*TOKENS, 90, 91, 92))


def test_tenants_and_loras_have_chains_of_their_own(cache: Cache) -> None:
    lora = LoRARequest("l", 1, "nowhere")
    cache.run(TOKENS[:8], cache_salt="tenant")
    cache.run(TOKENS[:8], lora_request=lora)
    cache.run(TOKENS[:8], lora_request=lora, cache_salt="tenant")
    plain = keys(TOKENS[:8])
    wanted = (
        keys(TOKENS[:8], "", "tenant") | keys(TOKENS[:8], "l") | keys(TOKENS[:8], "l", "tenant")
    )
    assert cache.held == wanted
    assert not cache.held & plain
    assert cache.names.left_out == 0


def test_two_prompts_computed_at_once_are_two_copies(cache: Cache) -> None:
    one, two = cache.request(TOKENS[:9]), cache.request(TOKENS[:9])
    found = cache.manager.get_computed_blocks(one)[0]
    for request in (one, two):
        assert cache.manager.allocate_slots(request, 9, 0, found) is not None
        request.num_computed_tokens = 9
        cache.manager.free(request)
    cache.hear()
    assert cache.held == keys(TOKENS[:8])
    pool = cache.manager.block_pool
    copies = [block for block in pool.blocks if block.block_hash is not None]
    assert len(copies) == 4
    for count, block in enumerate(copies, start=1):
        pool.evict_blocks({block.block_id})
        cache.hear()
        assert len(cache.held) == min(2, 4 - count)


def test_evicted_blocks_are_told(cache: Cache) -> None:
    cache.run(TOKENS)
    cache.run(range(100, 100 + (BLOCKS - 1) * BLOCK))
    assert cache.held == keys(range(100, 100 + (BLOCKS - 1) * BLOCK))


def test_an_emptied_cache_is_told(cache: Cache) -> None:
    cache.run(TOKENS)
    assert cache.manager.reset_prefix_cache()
    cache.hear()
    assert cache.held == set()


def test_a_reused_block_is_no_event_unless_it_is_asked_for(cache: Cache) -> None:
    cache.run(TOKENS)
    again = cache.request(TOKENS)
    assert again.kv_cache_report_mode == "incremental"
    cache.manager.get_computed_blocks(again)
    assert cache.manager.take_events() == []
    again.kv_cache_report_mode = "full"
    cache.manager.get_computed_blocks(again)
    assert len(cache.manager.take_events()) == 1


def test_the_last_block_of_a_cached_prompt_is_computed_again(cache: Cache) -> None:
    cache.run(TOKENS)
    found = [cache.manager.get_computed_blocks(cache.request(TOKENS[:n]))[1] for n in (12, 13, 4)]
    assert found == [8, 12, 0]


def test_without_prefix_caching_there_are_no_events() -> None:
    cache = Cache(enable_caching=False)
    cache.run(TOKENS)
    assert cache.held == set()
    assert cache.names.left_out == 0


# --- the tap --------------------------------------------------------------------------------------


class Recording(EventPublisher):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def publish(self, events: EventBatch) -> None:
        self.seen.append(events)

    def shutdown(self) -> None:
        self.seen.append("shutdown")

    def get_publisher_config(self) -> KVEventsConfig:
        return KVEventsConfig(publisher="null")


def test_the_tap_passes_on_what_it_hears_and_ignores_other_media() -> None:
    behind, names = Recording(), BlockNames("m", BLOCK, BLOCKS)
    tap = inside.CacheTap(behind, names)
    stored = BlockStored([b"a"], None, [1, 2, 3, 4], BLOCK, None, MEDIUM_CPU, None)
    batch = EventBatch(0.0, [stored, BlockRemoved([b"a"], MEDIUM_CPU), AllBlocksCleared()])
    tap.publish(batch)
    tap.shutdown()
    assert behind.seen == [batch, "shutdown"]
    assert len(names) == 0
    config = tap.get_publisher_config()
    assert config is not None
    assert config.publisher == "null"


def test_no_port_is_opened_for_events() -> None:
    config = core.engine_config(spec())
    assert config.kv_events_config is not None
    assert config.kv_events_config.enable_kv_cache_events
    assert isinstance(EventPublisherFactory.create(config.kv_events_config), NullEventPublisher)
    assert core.engine_config(spec(engine={"prefix_caching": False})).kv_events_config is None


def test_the_scheduler_publishes_within_the_update_that_makes_the_statistics() -> None:
    source = inspect.getsource(Scheduler.update_from_output)
    assert source.index("kv_event_publisher.publish") < source.index("self.make_stats(")
    assert "self.kv_event_publisher = EventPublisherFactory" in inspect.getsource(
        Scheduler.__init__
    )
    assert parameters(Scheduler.update_from_output) == [
        "self",
        "scheduler_output",
        "model_runner_output",
    ]
    assert parameters(Scheduler.schedule)[0] == "self"
    assert parameters(Scheduler.has_unfinished_requests) == ["self"]


def groups(*specs: Any) -> Any:
    """A scheduler with so many groups of layers."""
    found = [KVCacheGroupSpec(["one", "two"], spec) for spec in specs]
    return SimpleNamespace(
        kv_cache_config=KVCacheConfig(BLOCKS, [], found),
        cache_config=SimpleNamespace(block_size=BLOCK),
        vllm_config=SimpleNamespace(model_config=SimpleNamespace(served_model_name="m")),
    )


def test_caches_of_several_groups_are_not_named() -> None:
    one, two = groups(SPEC), groups(SPEC, SPEC)
    assert inside._block_bytes(one) == 2 * (2 * BLOCK * 2 * 8 * 4)
    assert inside._block_bytes(two) == 0
    for scheduler, named in ((one, 1), (two, 0)):
        names = inside._names(scheduler)
        names.stored([b"a"], None, [1, 2, 3, 4], None, None)
        assert (len(names), names.left_out) == (named, 1 - named)
