"""What direct streams rely on inside vLLM; after an upgrade it fails first, and says where."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.tokenizers import cached_tokenizer_from_config
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

from baton.errors import BatonError, Reason
from baton.settings.model import Settings
from engine.direct_text import EngineText
from router.http import front_args
from router.text_states import Counted, go_on_behind, only_count
from tests.wire.http.support import DEMO, TEXT

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def processor() -> OutputProcessor:
    args = front_args(Settings.model_validate({"model": {"served_name": "demo"}}), DEMO)
    from router.http import build_front
    from tests.wire.fakes import FakeHeart

    front = build_front(args, FakeHeart())
    return OutputProcessor(
        cached_tokenizer_from_config(front.model_config), log_stats=False, stream_interval=1
    )


@pytest.fixture(scope="module")
def words(processor: OutputProcessor) -> list[int]:
    found: list[int] = processor.tokenizer.encode(TEXT, add_special_tokens=False)
    return found


def request(name: str, **sampling: Any) -> EngineCoreRequest:
    params = SamplingParams(output_kind=RequestOutputKind.DELTA, max_tokens=100, **sampling)
    core = EngineCoreRequest(
        request_id=name,
        prompt_token_ids=[5, 6],
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    core.external_req_id = name
    return core


def told(name: str, *tokens: int, finish: FinishReason | None = None) -> EngineCoreOutput:
    return EngineCoreOutput(name, list(tokens), finish_reason=finish)


def test_the_signatures() -> None:
    assert [*inspect.signature(OutputProcessor.add_request).parameters][1:] == [
        "request",
        "prompt",
        "parent_req",
        "request_index",
        "queue",
    ]
    plain = {name for name in dir(IncrementalDetokenizer) if not name.startswith("_")}
    assert plain - {"from_new_request"} <= set(dir(Counted([])))
    for name in ("update", "get_next_output_text"):
        theirs = inspect.signature(getattr(IncrementalDetokenizer, name)).parameters
        assert [*inspect.signature(getattr(Counted, name)).parameters] == [*theirs]


async def test_text_grows_and_the_router_hears_of_all_tokens(
    processor: OutputProcessor, words: list[int]
) -> None:
    text = EngineText(processor, request("a"))
    first, *middle, last = words
    output = told("a", first)
    assert not text.add(output)
    assert text.told(output, stopped=False).new_token_ids == [first]
    for token in middle:
        assert not text.add(told("a", token))
    output = told("a", last, finish=FinishReason.LENGTH)
    assert not text.add(output)
    assert text.told(output, stopped=False).new_token_ids == [*middle, last]
    whole = await text.next()
    assert isinstance(whole, RequestOutput)
    assert (whole.outputs[0].text, whole.outputs[0].token_ids) == (TEXT, words)
    assert whole.finished
    assert not processor.request_states


async def test_a_stop_text_ends_it(processor: OutputProcessor, words: list[int]) -> None:
    text = EngineText(processor, request("a", stop=["fox"]))
    seen: list[int] = []
    for token in words:
        seen.append(token)
        output = told("a", token)
        if text.add(output):
            break
    final = text.told(output, stopped=True)
    assert (final.new_token_ids, final.finish_reason) == (seen, FinishReason.STOP)
    whole = await text.next()
    assert whole.outputs[0].text == TEXT.partition("fox")[0]
    assert (whole.finished, whole.outputs[0].stop_reason) == (True, "fox")


async def test_a_failure_comes_behind_what_there_is(
    processor: OutputProcessor, words: list[int]
) -> None:
    text = EngineText(processor, request("a"))
    text.add(told("a", words[0]))
    read = await text.next()
    assert read.outputs[0].token_ids == words[:1]
    text.fail(BatonError(Reason.WORKER_LOST, "gone"))
    with pytest.raises(BatonError, match="gone"):
        await text.next()
    assert not processor.request_states


@pytest.mark.parametrize("waits", [True, False])
async def test_what_is_unread_comes_before_a_failure(
    processor: OutputProcessor, words: list[int], waits: bool
) -> None:
    text = EngineText(processor, request("a"))
    reading = asyncio.ensure_future(text.next()) if waits else None
    await asyncio.sleep(0)
    text.add(told("a", words[0]))
    text.add(told("a", words[1]))
    text.fail(BatonError(Reason.WORKER_LOST, "gone"))
    read = await (reading or text.next())
    assert read.outputs[0].token_ids == words[:2]
    assert not read.finished
    for _ in range(2):
        with pytest.raises(BatonError, match="gone"):
            await asyncio.wait_for(text.next(), 1)
        text.fail(BatonError(Reason.WORKER_LOST, "gone"))
    assert not processor.request_states


async def test_only_streamed_answers_are_taken(processor: OutputProcessor) -> None:
    whole = request("a")
    whole.sampling_params.output_kind = RequestOutputKind.FINAL_ONLY
    with pytest.raises(BatonError) as raised:
        EngineText(processor, whole)
    assert raised.value.reason is Reason.UNSUPPORTED
    assert not processor.request_states


@pytest.mark.parametrize("stop", [[], ["not in there at all"]])
def test_a_resumed_text_is_the_rest_of_it(
    processor: OutputProcessor, words: list[int], stop: list[str]
) -> None:
    def read(name: str, tokens: list[int], finish: FinishReason | None) -> str:
        (output,) = processor.process_outputs([told(name, *tokens, finish=finish)]).request_outputs
        return output.outputs[0].text

    processor.add_request(request("a", stop=stop), None)
    before = "".join(read("a", [token], None) for token in words[:7])
    processor.add_request(request("b", stop=stop), None)
    go_on_behind(processor.request_states["b"], words[:7])
    after = read("b", words[7:], FinishReason.LENGTH)
    assert before + after == TEXT
    processor.abort_requests(["a"], internal=True)


async def test_what_only_counts_has_no_text(processor: OutputProcessor, words: list[int]) -> None:
    queue = RequestOutputCollector(RequestOutputKind.DELTA, "a")
    processor.add_request(request("a", stop=["fox"]), None, None, 0, queue)
    processor.process_outputs([told("a", words[0])])
    state = processor.request_states["a"]
    only_count(state)
    processor.process_outputs([told("a", *words[1:], finish=FinishReason.LENGTH)])
    output = await queue.get()
    assert output.finished
    assert len(output.outputs[0].token_ids) == state.detokenizer.num_output_tokens() == len(words)
