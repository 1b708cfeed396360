"""Write docs/metrics.md: every metric of a router, as the code defines them.

usage: python scripts/metrics_catalogue.py [--check]
With --check nothing is written, and the exit status is 1 if the file is not what it would be.
A router is put together as in its process, without workers; whatever has registered with its
metrics is listed, custom collectors included. What values a label takes is said here.
"""

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from baton.clock import ManualClock
from baton.costs import WorkerCosts
from baton.errors import Reason
from baton.ids import RouterId
from baton.messages import Role, WorkerState
from baton.settings import Settings
from baton.settings.router import CLASSES_MAX
from cluster.metrics import ClusterCollector, Told
from cluster.tally import ADD, CHANGE_ROLE, REASONS, REMOVE
from router.attainment import PROMISES, WINDOWS_S
from router.heart import Heart
from router.metrics import RouterMetrics
from router.policy.affinity import Why
from router.policy.decode_choice import DecodeWhy
from router.policy.types import ChoiceReason
from router.promises import TENANT_LABELS_MAX
from router.wire import Identity

TARGET = Path(__file__).parent.parent / "docs" / "metrics.md"
_UNITS = ("seconds", "bytes", "tokens", "ratio", "blocks", "requests", "frames", "workers")
_RATES = ("tokens_per_second", "gb_per_second")


def _values(kind: Iterable[StrEnum | str]) -> str:
    return ", ".join(f"`{one}`" for one in kind)


_SOME_REASON = f"a reason as in answers' `code`: {_values(Reason)}"
LABELS: dict[str, str] = {
    "action": _values((ADD, REMOVE, CHANGE_ROLE)),
    "answer": "`answered`, `refused`, `late`",
    "class": f"`default` and the classes in `slo.classes`, {CLASSES_MAX + 1} at most",
    "end": "`source` (prefill), `target` (decode)",
    "kind": "what could not be used of it; a few words",
    "met": "`yes`, `no`",
    "model": "the name that clients use (`model.served_name`)",
    "outcome": "`finished`, `failed`, `cancelled` (its client left), `expired` (its deadline)",
    "part": "a part of the time; see the meaning",
    "peer": "id of the worker at the other end",
    "promise": _values(PROMISES),
    "reason": _SOME_REASON,
    "role": _values(Role),
    "state": "where the ticket is; a few words",
    "tenant": f"of `admission.tenants`: `default`, the first ones up to {TENANT_LABELS_MAX} "
    "in all, `other` for the rest",
    "version": "of `baton-serve`",
    "vllm_version": "of vLLM",
    "window": _values(WINDOWS_S),
    "work": _values(WorkerCosts.__dataclass_fields__),
    "worker": "id of a worker; its rows go when it does",
}
"""What each label is; `SPECIAL` where a metric gives it another meaning."""
SPECIAL: dict[tuple[str, str], str] = {
    ("baton_scaler_actions", "reason"): "as in `baton_scaler_reason`",
    ("baton_scaler_decisions", "reason"): "as in `baton_scaler_reason`",
    ("baton_scaler_reason", "reason"): _values(REASONS),
    ("baton_scaler_workers", "state"): _values(WorkerState),
    ("baton_choices", "reason"): _values(ChoiceReason),
    ("baton_decode_choices", "reason"): _values(DecodeWhy),
    ("baton_kv_transfer_ended", "reason"): "why; a few words",
    ("baton_prefill_choices", "reason"): _values(Why),
    ("baton_requests", "reason"): f"empty where it ended well, else {_SOME_REASON}",
    ("baton_retries", "reason"): "the same, or `over_budget`: too many retries already",
    ("baton_slo_attainment_ratio", "window"): "`5m`, `1h`",
    ("baton_slo_promise_seconds", "promise"): "`ttft`, `tpot`",
    ("baton_tenant_requests", "outcome"): "`admitted`, or the reason of the refusal",
}


class Family(NamedTuple):
    """One metric. `name` as the code has it, without a counter's `_total`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def shown(self) -> str:
        """The name in queries."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    @property
    def unit(self) -> str:
        """By its name, which ends in it."""
        rates = [rate.replace("_", " ") for rate in _RATES if self.name.endswith(rate)]
        units = [unit for unit in _UNITS if self.name.endswith(unit)]
        return (rates or units or [""])[0]


def families() -> list[Family]:
    """All that a router has, by name."""
    metrics = RouterMetrics()
    identity = Identity(RouterId("router"), "")
    settings = Settings()
    Heart(identity, settings, ManualClock(), metrics, _no_link)
    told = Told(None, None, 0.0)
    metrics.registry.register(ClusterCollector(lambda: told, settings.kv_transfer))
    found = [f for one in _collectors(metrics.registry) for f in _of_collector(one)]
    return sorted(found)


def _no_link(*_args: object) -> Any:
    raise AssertionError("there are no workers here")


def _collectors(registry: Any) -> list[Any]:
    return list(registry._collector_to_names)  # noqa: SLF001


def _of_collector(collector: Any) -> Iterator[Family]:
    for metric in collector.describe() if _is_plain(collector) else collector.collect():
        labels = (collector if _is_plain(collector) else metric)._labelnames  # noqa: SLF001
        text = " ".join(metric.documentation.split())
        yield Family(metric.name, metric.type, tuple(labels), text)


def _is_plain(collector: object) -> bool:
    return isinstance(collector, MetricWrapperBase)


# --- the page -------------------------------------------------------------------------------------

_HEAD = """# Metrics

<!-- Made by scripts/metrics_catalogue.py: change the code, then run it again. -->

What a router says at `/metrics`, in the text format of Prometheus, or in OpenMetrics to scrapers
that ask for it: then `baton_time_to_first_token_seconds` has exemplars with the `trace_id` and
`request_id` of requests that came with a W3C `traceparent`. Names never change; units are base
units and end the name. A histogram has `_bucket`, `_sum` and `_count`; a gauge without a value
has no row. Each router counts what passes through it: sum over them. What the controller told all
of them (`baton_scaler_*`, `baton_controller_*`, `baton_worker_kv_blocks`, the bounds of
`baton_kv_*`) is the same in each: take `max`. `process_*` is of the router's own process.

"""
_PROMISES = """
## Promises

`promise` is also the pool: TTFT is what sizes prefill, TPOT what sizes decode, and `both` is what
a client sees. A request counts once it has ended:

* one that was let in and ends well, by its times; an answer of one token keeps its TPOT;
* one that fails for a fault of the cluster as not kept, whatever it got before;
* one whose client leaves or whose deadline passes, by what it got until then; before its first
  token not at all, unless the promised time was over when its deadline came;
* one that fails for a fault of its own, such as a parameter that an engine refuses, not at all;
* one that is refused not at all: it is in `baton_refusals_total`.

Shares over windows are those of one router, in 60 parts of which the oldest falls out as a whole.
The burn is (1 - attainment) / (1 - `baton_slo_objective_ratio`): 1 uses up the error budget
exactly, more breaks the objective. Over several routers, take rates of
`baton_slo_requests_total`. `baton_slo_promise_seconds` is the TTFT of a prompt of no length;
`slo.ttft_s_per_1000_tokens` comes on top.
"""


def render() -> str:
    """The whole page. Raises KeyError for a label of which nothing is said here."""
    found = families()
    rows = [
        "| metric | type | unit | labels | meaning |",
        "|---|---|---|---|---|",
        *(_row(family) for family in found),
    ]
    return _HEAD + "\n".join(rows) + "\n" + _PROMISES + "\n## Labels\n\n" + _labels(found)


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.shown}` | {family.kind} | {family.unit} | {labels} | {family.text} |"


def _labels(found: list[Family]) -> str:
    lines = []
    for label in sorted({label for family in found for label in family.labels}):
        special = [
            f"  * in `{family.shown}`: {SPECIAL[family.name, label]}"
            for family in found
            if (family.name, label) in SPECIAL
        ]
        lines += [f"* `{label}`: {LABELS[label]}", *special]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    text = render()
    if "--check" not in argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("docs/metrics.md is stale: run python scripts/metrics_catalogue.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
