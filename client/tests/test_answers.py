"""An answer is put together from its messages, and is whole or an error."""

from __future__ import annotations

import pytest
from baton_client import FinishReason, ServerError, Usage
from baton_client._core import Core, Reading
from baton_client._kept import Kept
from baton_client.answers import Answer
from baton_client.prompts import generate_ask
from baton_client.v1 import service_pb2 as pb

STOP = pb.FINISH_REASON_STOP


def message(*deltas: pb.Delta, **fields: object) -> pb.GenerateResponse:
    return pb.GenerateResponse(deltas=deltas, **fields)


def test_pieces_join_per_choice() -> None:
    answer = Answer(choices=2)
    answer.start(10.0)
    first = [pb.Delta(index=1, text="x", tokens=1), pb.Delta(index=0, text="a", tokens=2)]
    answer.add(message(*first, request_id="r", model="m"), 10.5)
    answer.add(message(pb.Delta(index=0, text="b", tokens=1, finish_reason=STOP)), 11.0)
    end = pb.Delta(index=1, finish_reason=pb.FINISH_REASON_LENGTH)
    answer.add(message(end, usage=pb.Usage(prompt_tokens=3, completion_tokens=4)), 11.0)
    done = answer.whole(12.0, attempts=1)
    assert [c.text for c in done.choices] == ["ab", "x"]
    assert [c.tokens for c in done.choices] == [3, 1]
    assert [c.finish_reason for c in done.choices] == ["stop", "length"]
    assert (done.text, done.finish_reason, str(done)) == ("ab", "stop", "ab")
    assert (done.request_id, done.model) == ("r", "m")
    assert done.usage == Usage(3, 0, 4)
    assert (done.ttft_s, done.total_s, done.timing) == (0.5, 2.0, None)


def test_token_ids_logprobs_and_stop_text_are_kept() -> None:
    answer = Answer()
    answer.start(0.0)
    token = pb.TokenLogprob(token_id=7, text="a", logprob=-0.5)
    position = pb.TokenLogprobs(chosen=token, top=[token, pb.TokenLogprob(token_id=8)])
    delta = pb.Delta(
        text="a", token_ids=[7], logprobs=[position], finish_reason=STOP, stop_text="END"
    )
    answer.add(message(delta), 0.0)
    choice = answer.whole(0.0, attempts=1).choices[0]
    assert choice.token_ids == (7,)
    assert choice.stop_text == "END"
    assert choice.logprobs[0].chosen.logprob == -0.5
    assert [token.token_id for token in choice.logprobs[0].top] == [7, 8]


def test_the_split_is_read_by_name() -> None:
    answer = Answer()
    answer.start(0.0)
    timing = pb.Timing(ttft_s=3.0, prefill_compute_s=2.0, delivery_s=1.0)
    answer.add(message(pb.Delta(finish_reason=STOP), timing=timing), 0.0)
    read = answer.whole(0.0, attempts=1).timing
    assert read is not None
    assert (read.ttft_s, read.prefill_compute_s, read.delivery_s) == (3.0, 2.0, 1.0)


def test_every_finish_reason_of_the_service_is_known() -> None:
    known = set(pb.FinishReason.keys()) - {"FINISH_REASON_UNSPECIFIED"}
    assert known == {f"FINISH_REASON_{r.name}" for r in FinishReason if r != "other"}


def test_so_many_choices_are_waited_for_as_were_asked_for() -> None:
    reading = Reading(Core("localhost:1", {}), Kept(), generate_ask("p", {"n": 2}), None)
    reading.took(message(pb.Delta(text="a", finish_reason=STOP)))
    with pytest.raises(ServerError):
        reading.ended()


def test_an_unknown_finish_reason_ends_a_choice_all_the_same() -> None:
    answer = Answer()
    answer.start(0.0)
    answer.add(message(pb.Delta(finish_reason=99)), 0.0)
    assert answer.whole(0.0, attempts=1).finish_reason is FinishReason.OTHER


@pytest.mark.parametrize(
    "deltas", [[], [pb.Delta(text="a")], [pb.Delta(index=1, finish_reason=STOP)]]
)
def test_what_is_not_whole_is_an_error(deltas: list[pb.Delta]) -> None:
    answer = Answer(choices=2)
    answer.start(0.0)
    answer.add(message(*deltas), 0.0)
    with pytest.raises(ServerError) as raised:
        answer.whole(0.0, attempts=1)
    assert raised.value.reason == "incomplete_answer"
