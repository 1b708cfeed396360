"""Reasons are labels of metrics and sentences for people."""

from cluster.scaling.decision import Reason
from cluster.scaling.law import decide
from cluster.scaling.memory import Memory
from tests.unit.cluster.scaling.sights import pool, rules, sight


def test_codes_are_short_words():
    assert all(reason.value.replace("_", "").isalpha() for reason in Reason)
    assert len({reason.value for reason in Reason}) == len(Reason)


def test_a_sentence_names_pool_count_and_cause():
    why = decide(sight(pool(1, 2.0)), Memory(), 0.0, rules()).why[0]
    assert why.text.startswith("prefill 3: 2.00 busy workers")
