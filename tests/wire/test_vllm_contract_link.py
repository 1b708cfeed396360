"""What the engine link relies on in vLLM 0.32, against vLLM's own client of engine cores."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from vllm.v1.engine import (
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    EngineCoreRequestType,
    FinishReason,
)
from vllm.v1.engine.core_client import AsyncMPClient

from baton.settings.model import Settings
from router.engine_link import FrontEnd, ModelLimits, ready_message
from router.engine_links import EngineLinks
from router.gathering import BARE, EVENTS, FINISH, NAME, STOP, TOKENS
from router.http import device_less_config, front_args
from tests.wire.fakes import END, FakeHeart, Script, encode
from tests.wire.front_end import request
from tests.wire.http.support import DEMO


def test_kinds_of_messages() -> None:
    kinds = EngineCoreRequestType
    assert (kinds.ADD.value, kinds.ABORT.value, kinds.UTILITY.value) == (b"\0", b"\1", b"\3")


def test_the_ready_message_names_all_that_has_no_default() -> None:
    ready = msgspec.msgpack.decode(
        ready_message(ModelLimits(4096, 16, 7, "bfloat16")), type=EngineCoreReadyResponse
    )
    assert (ready.max_model_len, ready.block_size, ready.num_gpu_blocks) == (4096, 16, 7)
    assert (ready.dtype, ready.data_parallel_rank, ready.supports_lora) == ("bfloat16", 0, False)


def test_an_output_is_a_list_of_all_its_fields() -> None:
    """Fields are found by their number, and the last ones are not left out."""
    step = EngineCoreOutputs(outputs=[EngineCoreOutput("a", [1])])
    whole = msgspec.msgpack.decode(encode(step)[0])
    assert EngineCoreOutputs.__struct_fields__[:4] == (
        "engine_index", "outputs", "scheduler_stats", "timestamp",
    )  # fmt: skip
    (output,) = whole[1]
    names = EngineCoreOutput.__struct_fields__
    assert [names[number] for number in (NAME, TOKENS, FINISH, STOP, EVENTS)] == [
        "request_id", "new_token_ids", "finish_reason", "stop_reason", "events",
    ]  # fmt: skip
    assert len(output) == len(names)
    assert output[TOKENS + 1 :] == BARE


def test_a_short_step_is_read_as_one_without_the_rest() -> None:
    short = msgspec.msgpack.encode((0, [["a", [1, 2]]], None, 5.0))
    step = msgspec.msgpack.decode(short, type=EngineCoreOutputs)
    assert (step.outputs[0].new_token_ids, step.timestamp) == ([1, 2], 5.0)
    assert step.utility_output is None


def test_what_a_request_is_asked_for() -> None:
    names = EngineCoreRequest.__struct_fields__
    assert {"request_id", "prompt_token_ids", "priority", "cache_salt", "trace_headers"} <= {*names}
    assert {"lora_request", "mm_features", "resumable", "sampling_params"} <= {*names}


@pytest.fixture(scope="module")
def config() -> Any:
    settings = Settings.model_validate({"model": {"served_name": "demo"}})
    return device_less_config(front_args(settings, DEMO))


async def test_vllms_own_client_takes_the_router_for_an_engine(tmp_path: Path, config: Any) -> None:
    heart = FakeHeart(Script(tokens=[5, 6]))
    links = heart.front = EngineLinks(heart)
    front_end = FrontEnd("f0", f"ipc://{tmp_path}/in", f"ipc://{tmp_path}/out")
    links.attach(front_end, ModelLimits(512, 16, 100, "bfloat16"))
    client = await asyncio.to_thread(_client, config, front_end)
    try:
        assert config.model_config.max_model_len == 512
        assert await client.get_supported_tasks_async() == ["generate"]
        with pytest.raises(Exception, match="Baton manages its own"):
            await client.sleep_async(1)
        await client.add_request_async(request("a"))
        tokens: list[int] = []
        async with asyncio.timeout(5):
            while END not in tokens:
                (output,) = (await client.get_output_async()).outputs
                tokens += output.new_token_ids
        assert tokens == [5, 6, END]
        assert output.finish_reason is FinishReason.STOP
        heart.script = Script(tokens=[5], endless=True, delay_s=0.01)
        await client.add_request_async(request("b", 1000))
        await client.get_output_async()
        await client.abort_requests_async(["b"])
        async with asyncio.timeout(5):
            while heart.aborted != ["f0/b"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        client.shutdown(timeout=0)
        links.close()
        await heart.tasks.aclose()


def _client(config: Any, front_end: FrontEnd) -> AsyncMPClient:
    return AsyncMPClient(
        vllm_config=config,
        executor_class=SimpleNamespace,
        log_stats=False,
        client_addresses={
            "input_address": front_end.input_address,
            "output_address": front_end.output_address,
        },
    )
