"""Views with round numbers: a worker does 100 tokens/s, so load is arriving tokens over 100."""

from dataclasses import replace

from baton.settings import ScalingSettings, SloSettings
from cluster.scaling.law import decide
from cluster.scaling.memory import Memory
from cluster.scaling.rules import Rules
from cluster.scaling.view import PoolSight, ScalingView, Signal


def pool(ready=2, load=1.0, *, starting=0, backlog=0.0, attained=0.2, predicted=0.2, kv=0.2):
    """A healthy pool unless told otherwise. None for a signal that was not measured."""
    return PoolSight(
        ready,
        starting,
        0,
        Signal(load * 100),
        Signal(100.0),
        *(None if v is None else Signal(v) for v in (backlog, attained, predicted, kv)),
    )


def sight(prefill=None, decode=None, **other):
    return ScalingView(prefill or pool(), decode or pool(), **({"startup_s": 60.0} | other))


def rules(**settings):
    """Bounds 1 to 10, one GPU per worker, a promise of 2 s."""
    given = {"mode": "auto", "prefill_max_workers": 10, "decode_max_workers": 10} | settings
    slo = SloSettings(ttft_s=2.0, ttft_s_per_1000_tokens=0.0)
    return Rules(ScalingSettings(**given), slo, 1, 1)


def later(view, rounds=50, settings=None, memory=None, start=1000.0, every=5.0):
    """The decision after many rounds of the same, all settled; counts stay as they are."""
    settings, memory = settings or rules(), memory or Memory()
    said = decide(view, memory, start, settings)
    for n in range(1, rounds):
        memory = said.memory
        # Nobody carries out what is said: each round starts from what is there.
        memory = replace(
            memory,
            prefill=replace(memory.prefill, wanted=view.prefill.provisioned),
            decode=replace(memory.decode, wanted=view.decode.provisioned),
        )
        said = decide(view, memory, start + n * every, settings)
    return said


def counts(said):
    return said.prefill, said.decode


def reasons(said):
    return tuple(why.reason for why in said.why)
