"""Engines that share cores."""

from simulator.plain_routers import InTurn
from tests.unit.simulator.builders import Solo, Watching, approx, request, trace, world


def test_where_cores_are_free_nobody_is_slower() -> None:
    one = trace(request(0, 0.0, 1000, 11))
    apart = Watching(world()).run(one).records[0]
    shared = Watching(world(cores=2)).run(one).records[0]
    assert (shared.first_s, shared.finished_s) == (apart.first_s, apart.finished_s)


def test_two_on_one_core_take_twice_as_long() -> None:
    # Prefill alone until 1 s; then the second prompt is computed beside the first one's steps.
    both = trace(request(0, 0.0, 1000, 101), request(1, 1.0, 500, 1))
    first, second = Watching(world(cores=1)).run(both).records
    assert first.computed_s == approx(1.0)
    # 50 of its steps take 20 ms beside the prompt, which takes 1 s.
    assert second.computed_s == approx(2.0)
    assert 1.48 < first.finished_s - first.first_s < 1.53


def test_as_many_as_there_are_cores_are_not_slowed() -> None:
    rules = world(prefill=2, decode=1, cores=3)
    both = trace(request(0, 0.0, 1000, 11), request(1, 0.0, 1000, 11))
    assert [r.computed_s for r in Watching(rules, lambda _: InTurn()).run(both).records] == [
        approx(1.0),
        approx(1.0),
    ]


def test_three_on_two_cores_take_half_as_long_again() -> None:
    rules = world(prefill=3, decode=1, cores=2)
    three = trace(*(request(n, 0.0, 1000, 2) for n in range(3)))
    records = Watching(rules, lambda _: InTurn()).run(three).records
    assert [r.computed_s for r in records] == [approx(1.5)] * 3


def test_what_cores_have_given_is_counted_once() -> None:
    watched = Watching(world(prefill=3, decode=1, cores=2), lambda _: InTurn())
    watched.run(trace(*(request(n, 0.0, 1000, 1) for n in range(3))))
    assert watched.cluster.fleet.cores is not None
    # 1 ms per token of each prompt, whoever else computes.
    assert 2.9 < watched.cluster.fleet.cores.taken_s < 3.2


def test_crowded_engines_serve_everything() -> None:
    rules = world(prefill=0, decode=3, cores=2)
    rows = [request(n, 0.13 * n, 200, 30) for n in range(40)]
    outcome = Watching(rules, lambda _: Solo()).run(trace(*rows))
    assert all(r.finished_s > 0 for r in outcome.records)
