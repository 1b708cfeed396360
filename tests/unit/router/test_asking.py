"""A question ends with its last answer, with patience, or with its request."""

from baton.ids import Leg, LegId, RequestId
from router.asking import PATIENCE_S, Questions
from router.policy.prefill import Answer, Request

LEG = LegId(RequestId("r"), 0, Leg.PREFILL)
REQUEST = Request(1, 0.0, 10, (), (), 16)


def asked(*slots: int) -> Questions:
    questions = Questions()
    questions.ask(REQUEST, LEG, slots, 10.0)
    return questions


def test_the_last_answer_ends_it() -> None:
    questions = asked(0, 3)
    assert questions.answered(str(LEG), 3, Answer(3, 0.5, 16)) is None
    assert questions.answered(str(LEG), 3, Answer(3, 9.9, 16)) is None
    question = questions.answered(str(LEG), 0, None)
    assert question is not None
    assert question.answers == {3: Answer(3, 0.5, 16)}
    assert len(questions) == 0


def test_strangers_are_not_heard() -> None:
    questions = asked(0)
    assert questions.answered(str(LEG), 7, Answer(7, 0.0, 0)) is None
    assert questions.answered("other.0.p", 0, Answer(0, 0.0, 0)) is None
    assert len(questions) == 1


def test_patience_ends() -> None:
    questions = asked(0, 1)
    assert questions.late(10.0 + PATIENCE_S / 2) == []
    (question,) = questions.late(10.0 + PATIENCE_S)
    assert question.left == {0, 1}
    assert questions.late(11.0) == []


def test_a_clock_that_jumps_back_does_not_make_it_wait_for_ever() -> None:
    assert len(asked(0).late(3.0)) == 1


def test_a_worker_out_of_reach_has_answered() -> None:
    questions = asked(0, 1)
    assert questions.unreachable(1) == []
    (question,) = questions.unreachable(0)
    assert question.answers == {}


def test_a_request_that_left_is_dropped() -> None:
    questions = asked(0)
    assert questions.drop(LEG) is not None
    assert questions.drop(LEG) is None
