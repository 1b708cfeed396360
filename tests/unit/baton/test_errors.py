"""The table is complete, and errors survive the way to another process."""

import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import (
    HINTS,
    RULES,
    BatonError,
    Reason,
    StartupError,
    StartupFault,
)

GRPC_NAMES = {
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_rule_that_makes_sense(reason: Reason) -> None:
    rule = RULES[reason]
    assert 400 <= rule.http_status < 600
    assert rule.grpc_status in GRPC_NAMES
    assert not (rule.retryable and rule.http_status in {400, 403, 404, 413})
    assert rule.openai_type.endswith("_error")


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.UNSUPPORTED, 400),
        (Reason.ROUTE_BLOCKED, 403),
        (Reason.MODEL_NOT_FOUND, 404),
        (Reason.QUEUE_FULL, 429),
        (Reason.CANCELLED, 499),
        (Reason.ENGINE_FAILED, 500),
        (Reason.WORKER_LOST, 502),
        (Reason.DRAINING, 503),
        (Reason.DEADLINE_EXCEEDED, 504),
    ],
)
def test_statuses_that_clients_rely_on(reason: Reason, status: int) -> None:
    assert BatonError(reason, "x").rule.http_status == status


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        RULES[Reason.INTERNAL] = RULES[Reason.DRAINING]  # type: ignore[index]


errors = st.builds(
    BatonError,
    st.sampled_from(Reason),
    st.text(),
    retry_after_s=st.none() | st.floats(0, 1e9),
    param=st.none() | st.text(),
)


def parts(error: BatonError) -> tuple[object, ...]:
    return error.reason, error.message, error.retry_after_s, error.param


@given(errors)
def test_wire_and_pickle_keep_everything(error: BatonError) -> None:
    assert parts(BatonError.from_wire(error.to_wire())) == parts(error)
    assert parts(pickle.loads(pickle.dumps(error))) == parts(error)


@given(st.dictionaries(st.sampled_from(["reason", "message", "retry_after_s", "param"]), st.text()))
def test_reading_a_strange_error_never_raises(wire: dict[str, str]) -> None:
    error = BatonError.from_wire(wire)
    assert error.retry_after_s is None or error.retry_after_s >= 0


def test_an_unknown_reason_is_internal_and_keeps_its_message() -> None:
    error = BatonError.from_wire({"reason": "from_the_future", "message": "m"})
    assert (error.reason, error.message) == (Reason.INTERNAL, "m")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "soon"])
def test_nonsense_advice_is_dropped(text: str) -> None:
    wire = {"reason": "queue_full", "message": "", "retry_after_s": text}
    assert BatonError.from_wire(wire).retry_after_s is None


def test_openai_shape() -> None:
    body = BatonError(Reason.PROMPT_TOO_LONG, "too long", param="prompt").to_openai()
    assert body == {
        "error": {
            "message": "too long",
            "type": "invalid_request_error",
            "param": "prompt",
            "code": "prompt_too_long",
        }
    }


@pytest.mark.parametrize("fault", StartupFault)
def test_every_startup_fault_says_what_to_do(fault: StartupFault) -> None:
    error = StartupError(fault, "broken", details=("one", "two"))
    assert str(error) == f"broken\n  - one\n  - two\nHint: {HINTS[fault]}"


def test_startup_errors_survive_wire_and_pickle() -> None:
    error = StartupError(StartupFault.PORT_TAKEN, "m", details=("a", "b"), hint="h")
    for copy in (StartupError.from_wire(error.to_wire()), pickle.loads(pickle.dumps(error))):
        assert (copy.fault, copy.message, copy.details, copy.hint) == (
            error.fault,
            "m",
            ("a", "b"),
            "h",
        )


def test_an_unknown_startup_fault_is_a_crash_with_its_own_hint() -> None:
    error = StartupError.from_wire({"fault": "?", "message": "m"})
    assert error.fault is StartupFault.ENGINE_CRASHED
    assert error.hint == HINTS[StartupFault.ENGINE_CRASHED]


def test_the_table_of_the_docs_is_this_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)` \| (yes|no) \|", text, re.MULTILINE)
    found = [(name, int(http), grpc, again == "yes") for name, http, grpc, again in rows]
    assert found == [
        (reason.value, rule.http_status, rule.grpc_status, rule.retryable)
        for reason, rule in ((reason, RULES[reason]) for reason in Reason)
    ]
