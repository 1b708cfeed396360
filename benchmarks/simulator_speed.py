"""How well the engine model fits a profile, and how fast the cluster model runs.

`python -m benchmarks.simulator_speed --profile FILE [--trace FILE]` prints the fit to standard
error and JSON to standard output: seconds of one core for 20,000 requests on 8 workers, by what
routers know, and with a trace in Mooncake's format the goodput of two plain rules (the highest load
at which nine requests in ten get TTFT within 2 s and TPOT within 40 ms).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from simulator.cluster_model import Cluster
from simulator.engine_model.fit import Fit, fit
from simulator.engine_model.profile import ProfileError, load_profile
from simulator.engine_model.times import EngineTimes
from simulator.plain_routers import InTurn, LeastWork
from simulator.plugs import Router
from simulator.results import Slo, highest_load
from simulator.rules import FRESH, OWN, ClusterRules, Freshness
from simulator.traces.formats import read_mooncake
from simulator.traces.generator import Workload, generate
from simulator.traces.request import Trace, TraceError
from simulator.traces.shape import at_load

REQUESTS = 20_000
LOAD_PER_S = 30.0
UNSCORED = 500
VIEWS = {
    "fresh": FRESH,
    "stale_1s": Freshness(every_s=1.0),
    "own_dispatches": OWN,
}
RULES: dict[str, Callable[[int], Router]] = {
    "round_robin": InTurn,
    "least_work": lambda _router: LeastWork(),
}


def main() -> int:
    """Prints one line of JSON; 2 when a file cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--trace", type=Path)
    chosen = parser.parse_args()
    try:
        found = fit(load_profile(chosen.profile))
        trace = read_mooncake(chosen.trace) if chosen.trace else None
    except (ProfileError, TraceError) as error:
        print(error, file=sys.stderr)
        return 2
    print(found, file=sys.stderr)
    result: dict[str, object] = {"fit": errors(found), "speed": speeds(found.times)}
    if trace:
        result["goodput_per_s"] = {n: goodput(found.times, trace, r) for n, r in RULES.items()}
    print(json.dumps(result))
    return 0


def errors(found: Fit) -> dict[str, dict[str, float]]:
    """Relative errors by kind of measurement."""
    return {e.what: {"mean": round(e.mean, 4), "worst": round(e.worst, 4)} for e in found.errors}


def speeds(times: EngineTimes) -> dict[str, dict[str, float]]:
    """Seconds of one core for the same load under each view."""
    trace = at_load(generate(Workload(REQUESTS, 2.0)), LOAD_PER_S)
    return {name: speed(times, trace, view) for name, view in VIEWS.items()}


def speed(times: EngineTimes, trace: Trace, view: Freshness) -> dict[str, float]:
    """One run with four routers and eight workers."""
    cluster = Cluster(ClusterRules(times, 4, 4, routers=4, freshness=view), RULES["least_work"])
    began_s = time.process_time()
    outcome = cluster.run(trace)
    cpu_s = time.process_time() - began_s
    return {
        "cpu_s": round(cpu_s, 2),
        "events": outcome.events,
        "times_real": round(outcome.seconds / cpu_s),
        "attained": round(outcome.summary(unscored=UNSCORED).attained, 4),
    }


def goodput(times: EngineTimes, trace: Trace, make_router: Callable[[int], Router]) -> float:
    """The highest load that is served well."""

    def attained(load: float) -> float:
        outcome = Cluster(ClusterRules(times, 4, 4), make_router).run(at_load(trace, load))
        return outcome.summary(Slo(), UNSCORED).attained

    return round(highest_load(attained, start=4.0, precision=0.02), 2)


if __name__ == "__main__":
    sys.exit(main())
