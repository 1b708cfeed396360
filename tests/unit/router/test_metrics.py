"""Metrics have the project's prefix, base units and few label values."""

from prometheus_client import generate_latest

from baton.errors import Reason
from baton.ids import WorkerId
from baton.messages import Role
from router.metrics import RouterMetrics
from router.policy.types import ChoiceReason

W = WorkerId("decode-0")


def sample(metrics: RouterMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_ends_are_counted_by_outcome_and_reason() -> None:
    metrics = RouterMetrics()
    metrics.ended(None, 1.5)
    metrics.ended(Reason.CANCELLED, 0.5)
    metrics.ended(Reason.WORKER_LOST, 0.5)
    name = "baton_requests_total"
    assert sample(metrics, name, outcome="finished", reason="") == 1
    assert sample(metrics, name, outcome="cancelled", reason="cancelled") == 1
    assert sample(metrics, name, outcome="failed", reason="worker_lost") == 1
    assert sample(metrics, "baton_request_duration_seconds_sum") == 2.5


def test_refusals_choices_and_first_tokens_are_counted() -> None:
    metrics = RouterMetrics()
    metrics.refused(Reason.QUEUE_FULL)
    metrics.chose(ChoiceReason.SHORT_PROMPT)
    metrics.first_token(0.2, "batch")
    metrics.answered(0.03)
    metrics.broke()
    assert sample(metrics, "baton_refusals_total", reason="queue_full") == 1
    assert sample(metrics, "baton_choices_total", reason="short_prompt") == 1
    by_class = {"class": "batch"}
    assert sample(metrics, "baton_time_to_first_token_seconds_count", **by_class) == 1
    assert sample(metrics, "baton_tpot_seconds_sum") == 0.03
    assert sample(metrics, "baton_router_faults_total") == 1


def test_everything_has_the_prefix_and_two_routers_do_not_share() -> None:
    metrics, other = RouterMetrics(), RouterMetrics()
    metrics.frame(Role.DECODE)
    metrics.link_lost(Role.DECODE)
    metrics.workers_refused(1)
    names = [line.split()[2] for line in generate_latest(metrics.registry).decode().splitlines()
             if line.startswith("# TYPE")]  # fmt: skip
    assert all(name.startswith("baton_") for name in names)
    assert sample(metrics, "baton_frames_total", role="decode") == 1
    assert sample(other, "baton_frames_total", role="decode") is None
