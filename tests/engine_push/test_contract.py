"""vLLM's connector interface is what `kv_transfer.connector` takes it for. No engine runs here."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorTransferResults,
)
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
from vllm.v1.request import RequestStatus

from kv_transfer.connector import BatonConnector

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
