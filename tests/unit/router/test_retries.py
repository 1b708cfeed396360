"""Second attempts are a share of first ones."""

from hypothesis import given
from hypothesis import strategies as st

from router.retries import RetryBudget


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 1), st.integers(0, 20))
def test_never_more_than_the_burst_and_the_share(steps, share, burst) -> None:
    budget, earned, spent = RetryBudget(share, burst), 0, 0
    for earns in steps:
        if earns:
            budget.earn()
            earned += 1
        else:
            spent += budget.spend()
        assert spent <= burst + share * earned + 1e-6


def test_the_burst_is_there_at_once_and_comes_back_slowly() -> None:
    budget = RetryBudget(0.5, 2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
