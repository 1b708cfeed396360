"""A worker's load is its report plus what it was sent since."""

from baton.ids import WorkerId
from baton.messages import WorkerLoad
from router.policy.types import WorkerView


def test_load_counts_what_no_report_can_hold_yet() -> None:
    load = WorkerLoad(running=2, waiting=1, queued_prompt_tokens=50)
    worker = WorkerView(WorkerId("w"), load, pending_requests=3, pending_prompt_tokens=7)
    assert (worker.waiting, worker.requests, worker.queued_prompt_tokens) == (4, 6, 57)
