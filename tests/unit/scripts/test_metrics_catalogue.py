"""The catalogue of metrics is what the code has."""

from __future__ import annotations

from scripts import metrics_catalogue as catalogue


def test_the_page_is_not_stale() -> None:
    stale = "docs/metrics.md is stale: run python scripts/metrics_catalogue.py"
    assert catalogue.TARGET.read_text(encoding="utf-8") == catalogue.render(), stale


def test_metrics_of_custom_collectors_are_in_it() -> None:
    by_name = {family.name: family for family in catalogue.families()}
    assert by_name["baton_worker_kv_used_ratio"].labels == ("worker", "role")
    assert by_name["baton_slo_attainment_ratio"].labels == ("model", "class", "promise", "window")
    assert by_name["baton_retries"].shown == "baton_retries_total"
    assert by_name["baton_time_to_first_token_seconds"].unit == "seconds"


def test_what_is_said_of_labels_is_said_of_labels_that_are() -> None:
    there = {(family.name, label) for family in catalogue.families() for label in family.labels}
    assert catalogue.SPECIAL.keys() <= there
