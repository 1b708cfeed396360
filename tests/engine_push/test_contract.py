"""vLLM's connector interface is what `kv_transfer.connector` takes it for. No engine runs here."""

from __future__ import annotations

import inspect
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorTransferResults,
)
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import RequestStatus

from kv_transfer.connector import BatonConnector, _refuse_unsupported
from kv_transfer.envelopes import News, TransferStats

HOOKS = {
    "bind_kv_cache_manager": ["kv_cache_manager"],
    "on_new_request": ["request"],
    "get_num_new_matched_tokens": ["request", "num_computed_tokens"],
    "update_state_after_alloc": ["request", "blocks", "num_external_tokens"],
    "build_connector_meta": ["scheduler_output"],
    "request_finished": ["request", "block_ids"],
    "update_connector_output": ["connector_output"],
    "register_kv_caches": ["kv_caches"],
    "bind_connector_metadata": ["connector_metadata"],
    "wait_for_save": [],
    "get_transfer_results": ["finished_req_ids"],
    "build_connector_worker_meta": [],
    "get_handshake_metadata": [],
    "set_xfer_handshake_metadata": ["metadata"],
    "shutdown": [],
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_the_parameters_we_override(name: str) -> None:
    theirs = inspect.signature(getattr(KVConnectorBase_V1, name))
    ours = inspect.signature(getattr(BatonConnector, name))
    assert list(theirs.parameters)[1:] == HOOKS[name]
    assert list(ours.parameters)[1:] == HOOKS[name]


def test_no_hook_that_must_be_written_is_missing() -> None:
    assert not getattr(BatonConnector, "__abstractmethods__", ())


def test_results_have_the_fields_we_fill() -> None:
    names = [field.name for field in fields(KVConnectorTransferResults)]
    assert names == ["finished_sending", "finished_recving", "failed_recving"]


# --- several ranks --------------------------------------------------------------------------------


def _output(**fields: Any) -> ModelRunnerOutput:
    return ModelRunnerOutput([], {}, kv_connector_output=KVConnectorOutput(**fields))


def _together(aggregator: KVOutputAggregator, *ranks: ModelRunnerOutput) -> KVConnectorOutput:
    output = aggregator.aggregate(list(ranks))
    assert output is not None
    assert output.kv_connector_output is not None
    return output.kv_connector_output


def test_a_transfer_is_over_when_every_rank_says_so() -> None:
    aggregator = KVOutputAggregator(2)
    first = _together(
        aggregator, _output(finished_recving={"a", "b"}, finished_sending={"p"}), _output()
    )
    assert not first.finished_recving
    assert not first.finished_sending
    second = _together(
        aggregator, _output(), _output(finished_recving={"b"}, finished_sending={"p"})
    )
    assert (second.finished_recving, second.finished_sending) == ({"b"}, {"p"})
    third = _together(aggregator, _output(), _output(finished_recving={"a"}))
    assert third.finished_recving == {"a"}


def test_a_load_that_failed_on_one_rank_has_failed_once_all_are_over() -> None:
    aggregator = KVOutputAggregator(2)
    first = _together(aggregator, _output(finished_recving={"a"}, failed_recving={"a"}), _output())
    assert (first.finished_recving, first.failed_recving) == (None, set())
    second = _together(aggregator, _output(), _output(finished_recving={"a"}))
    assert (second.finished_recving, second.failed_recving) == ({"a"}, {"a"})


def test_what_ranks_tell_besides_is_put_together() -> None:
    both = _together(
        KVOutputAggregator(2),
        _output(
            kv_connector_worker_meta=News({"a"}, set()),
            kv_connector_stats=TransferStats({"baton": 1}),
        ),
        _output(
            kv_connector_worker_meta=News({"b"}, {"c"}),
            kv_connector_stats=TransferStats({"baton.1": 2}),
        ),
    )
    news = both.kv_connector_worker_meta
    assert isinstance(news, News)
    assert (news.admitted, news.failed) == ({"a", "b"}, {"c"})
    assert both.kv_connector_stats.data == {"baton": 1, "baton.1": 2}


def _refused(**sizes: int) -> str:
    names = ("pipeline", "prefill_context", "decode_context", "tensor")
    sizes = {f"{name}_parallel_size": sizes.get(name, 1) for name in names}
    group = SimpleNamespace(kv_cache_spec=object.__new__(FullAttentionSpec))
    config: Any = SimpleNamespace(parallel_config=SimpleNamespace(**sizes))
    cache: Any = SimpleNamespace(kv_cache_groups=[group])
    try:
        _refuse_unsupported(config, cache)
    except ValueError as error:
        return str(error)
    return ""


def test_tensor_parallel_engines_are_served_and_other_shapes_refused_with_what_to_do() -> None:
    assert _refused() == _refused(tensor=2) == _refused(tensor=8) == ""
    for name in ("pipeline", "prefill_context", "decode_context"):
        told = _refused(**{name: 2, "tensor": 2})
        assert f"{name}_parallel_size is 2" in told
        assert "vllm-nixl-pull" in told


def test_a_step_says_what_was_scheduled() -> None:
    assert {"req_id", "block_ids", "num_computed_tokens"} <= _names(NewRequestData)
    cached = {"req_ids", "resumed_req_ids", "new_block_ids", "num_computed_tokens"}
    assert cached <= _names(CachedRequestData)
    step = {"scheduled_new_reqs", "scheduled_cached_reqs", "num_scheduled_tokens"}
    assert step | {"total_num_scheduled_tokens"} <= _names(SchedulerOutput)


def _names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def test_the_pool_counts_references() -> None:
    assert list(inspect.signature(BlockPool.touch).parameters)[1:] == ["blocks"]
    assert list(inspect.signature(BlockPool.free_blocks).parameters)[1:] == ["ordered_blocks"]


def test_a_good_end_is_one_of_two() -> None:
    good = {RequestStatus.FINISHED_STOPPED, RequestStatus.FINISHED_LENGTH_CAPPED}
    finished = {status for status in RequestStatus if RequestStatus.is_finished(status)}
    assert good < finished
    assert RequestStatus.FINISHED_ABORTED in finished - good
