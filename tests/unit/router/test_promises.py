"""Each tenant has the promises of its class, and a bounded place in metrics."""

from __future__ import annotations

from baton.settings import Settings
from router.promises import OTHER, TENANT_LABELS_MAX, Promises


def promises(tenants: dict) -> Promises:
    slo = {"ttft_s": 1.0, "classes": {"batch": {"ttft_s": 60.0}}}
    return Promises(Settings.model_validate({"slo": slo, "admission": {"tenants": tenants}}))


def test_a_tenant_has_its_class_and_strangers_that_of_the_default_tenant() -> None:
    all_of = promises({"a": {"slo_class": "batch"}, "b": {}})
    assert (all_of.to("a").slo_class, all_of.to("a").slo.ttft_s) == ("batch", 60.0)
    assert (all_of.to("b").slo_class, all_of.to("b").slo.ttft_s) == ("default", 1.0)
    assert all_of.to("stranger") is all_of.to("default")
    assert set(all_of.classes) == {"default", "batch"}


def test_the_default_tenant_may_have_a_class_too() -> None:
    assert promises({"default": {"slo_class": "batch"}}).to("stranger").slo.ttft_s == 60.0


def test_only_the_first_tenants_are_told_apart() -> None:
    all_of = promises({f"t{n}": {} for n in range(1000)})
    labels = [all_of.to(f"t{n}").tenant_label for n in range(1000)]
    assert labels[:2] == ["t0", "t1"]
    assert len({*labels, all_of.to("x").tenant_label} - {OTHER}) == TENANT_LABELS_MAX
    assert all_of.to("x").tenant_label == "default"
    assert all_of.tenant_labels == {*labels, "default"}
