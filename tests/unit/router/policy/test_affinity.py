"""The choice of a prefill worker: affinity has a price, and a view of a quality."""

from hypothesis import given
from hypothesis import strategies as st

from baton.costs import PrefillCurve
from router.policy.affinity import (
    Pool,
    Prompt,
    Reuse,
    Rules,
    Why,
    _least_loaded,
    choose,
    choose_answered,
    price,
    whom_to_ask,
)

CURVE = PrefillCurve(0.01, 1e-4)
RULES = Rules()


def pool(*queue_s, fresh=True, open_mask=None):
    mask = (1 << len(queue_s)) - 1 if open_mask is None else open_mask
    return Pool(queue_s, [CURVE] * len(queue_s), mask, fresh)


def prompt(tokens=10_000, homes=(0, 1), left_s=5.0):
    return Prompt(tokens, homes, left_s, 512)


def chosen(request, there, levels=(), at_price=1.0, reuse=None, rules=RULES):
    return choose(request, there, levels, rules, reuse or Reuse(), at_price)


def test_the_warmest_wins_until_its_queue_costs_more_than_it_saves() -> None:
    levels = ((8_000, 0b10),)
    assert chosen(prompt(), pool(0.0, 1.5), levels).worker == 1
    choice = chosen(prompt(), pool(0.0, 1.7), levels)
    assert (choice.worker, choice.why) == (0, Why.CHEAPER)
    assert chosen(prompt(), pool(0.0, 1.7), levels, at_price=2.0).worker == 1


def test_levels_may_count_blocks_and_the_explanation_has_all_that_were_weighed() -> None:
    there, levels = pool(0.0, 0.5, 0.1), ((500, 0b10), (40, 0b01))
    for fresh in (True, False):
        there = there._replace(fresh=fresh)
        tokens = tuple((16 * count, mask) for count, mask in levels)
        choice = chosen(prompt()._replace(block_tokens=16), there, levels)
        assert choice == chosen(prompt(), there, tokens)
        assert choice.chosen in choice.candidates
        assert choice.chosen == min(choice.candidates, key=lambda c: c.cost_s)
    answered = choose_answered(
        prompt()._replace(block_tokens=16), [(1, 0.0, 8_000)], there, RULES, 1
    )
    assert answered.chosen.cached_tokens == 8_000


def test_between_equals_the_less_loaded() -> None:
    assert chosen(prompt(), pool(0.3, 0.2, 0.1), ((8_000, 0b011),)).worker == 1
    choice = chosen(prompt(), pool(0.3, 0.2, 0.1))
    assert (choice.worker, choice.why) == (2, Why.LEAST_LOADED)


def test_an_idle_pool_spreads_new_prefixes_over_their_homes() -> None:
    for home in range(4):
        assert chosen(prompt(homes=(home, 0)), pool(0.0, 0.0, 0.0, 0.0)).worker == home
    assert chosen(prompt(homes=(1, 3)), pool(0.0, 0.1, 0.2, 0.0)).worker == 3
    assert chosen(prompt(homes=(1,)), pool(0.0, 0.1)).worker == 0
    assert chosen(prompt(homes=(1,)), pool(0.0, 0.0, open_mask=0b01)).worker == 0


def test_a_fresh_view_takes_the_whole_pool_and_a_blind_one_stays_home() -> None:
    assert chosen(prompt(), pool(0.5, 0.5, 0.0)).worker == 2
    choice = chosen(prompt(), pool(0.5, 0.5, 0.0, fresh=False))
    assert (choice.worker, choice.why) == (0, Why.HOME)


def test_blind_short_prompts_balance_and_long_ones_stay() -> None:
    there = pool(0.6, 0.6, 0.1, fresh=False)
    assert chosen(prompt(tokens=600), there).worker == 2
    assert chosen(prompt(tokens=20_000), there).worker == 0


def test_without_reuse_blind_routing_is_least_loaded() -> None:
    there = pool(0.2, 0.6, 0.1, fresh=False)
    assert chosen(prompt(tokens=20_000), there, reuse=Reuse().scaled(0.0)).worker == 2


def test_a_share_of_the_promise_may_be_set_as_a_limit() -> None:
    levels, there = ((9_000, 0b10),), pool(0.0, 2.7)
    rules = Rules(slo_share=0.5)
    assert chosen(prompt(), there, levels, at_price=8.0).worker == 1
    choice = chosen(prompt(), there, levels, at_price=8.0, rules=rules)
    assert (choice.worker, choice.why) == (0, Why.SLO)


def test_only_open_workers_count_and_none_is_an_answer() -> None:
    choice = chosen(prompt(), pool(0.0, 9.0, open_mask=0b10), ((9_000, 0b01),))
    assert (choice.worker, choice.why) == (
        1,
        Why.CHEAPER if len(choice.candidates) > 1 else Why.ONLY,
    )
    assert chosen(prompt(), pool(0.0, open_mask=0)) is None


def test_the_price_grows_with_the_backlog_and_is_bounded() -> None:
    prices = [price((q, q, 99.0), 0b011, RULES, exact=False) for q in (0.0, 1.0, 2.0, 1e9)]
    assert prices[0] == 0.0
    assert prices == sorted(prices)
    assert prices[-1] == 8.0


def test_an_idle_worker_repeats_work_at_no_cost_to_anybody() -> None:
    hot = [price((q, 0.0), 0b11, RULES, exact=True) for q in (0.0, 3.0, 30.0)]
    assert hot == [RULES.price_min_exact] * 3
    assert price((3.0, 3.0), 0b11, RULES, exact=True) > RULES.price_min_exact
    tight, levels = Rules(slo_s=1.0), ((9_000, 0b01),)
    at = price((8.0, 0.0), 0b11, tight, exact=True)
    assert chosen(prompt(), pool(8.0, 0.0), levels, at_price=at, rules=tight).worker == 1


def test_asking_homes_first_and_deciding_on_their_word() -> None:
    choice = chosen(prompt(homes=(2, 1, 0)), pool(0.1, 0.2, 0.3, 0.0, fresh=False))
    asked = whom_to_ask((2, 1, 0), choice, most=3)
    assert asked == (2, 1, 0)
    answers = [(2, 1.0, 9_000), (1, 0.0, 0), (0, 4.0, 10_000)]
    decided = choose_answered(prompt(), answers, pool(0.1, 0.2, 0.3, 0.0), RULES, 1.0)
    assert (decided.worker, decided.chosen.queue_s) == (2, 1.0)


@given(
    st.lists(st.floats(0, 20), min_size=2, max_size=12),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 4095)), max_size=5),
    st.floats(0, 8),
    st.integers(1, 20_480),
)
def test_the_short_list_is_as_good_as_the_whole_pool(queues, raw, at_price, tokens) -> None:
    levels, left = [], (1 << len(queues)) - 1
    for blocks, mask in sorted(raw, reverse=True):
        if mask & left and blocks not in [b // 512 for b, _ in levels]:
            levels.append((blocks * 512, mask & left))
            left &= ~mask
    choice = chosen(prompt(tokens), pool(*queues), tuple(levels[:4]), at_price)
    held = {w: min(b, tokens) for b, m in levels[:4] for w in range(12) if m >> w & 1 and b > 512}
    best = min(
        q + (1 + at_price) * CURVE.seconds(tokens - held.get(w, 0), 0) for w, q in enumerate(queues)
    )
    assert choice.chosen.cost_s <= best + 1e-9


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("inf")]), min_size=1, max_size=12),
    st.integers(0, 4095),
    st.integers(1, 2),
)
def test_the_least_loaded_of_a_mask_are_those_a_sort_would_say(queues, raw, most) -> None:
    mask = raw & (1 << len(queues)) - 1
    members = [w for w in range(len(queues)) if mask >> w & 1]
    found = _least_loaded(queues, mask, most)
    if len(members) > most:
        assert found == sorted(members, key=queues.__getitem__)[:most]
    else:
        assert found == members
