"""Tenants in settings: what is understood and what is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from baton.errors import StartupError
from baton.settings import Settings
from baton.settings.admission import AdmissionSettings, TenantSettings
from baton.settings.load import load


def test_tenants_come_as_a_mapping() -> None:
    tenants = {"team-a": {"weight": 2, "priority": "high", "requests_per_minute": 60}, "b": {}}
    admission = AdmissionSettings.model_validate({"tenants": tenants})
    assert admission.tenants["team-a"].weight == 2.0
    assert admission.tenants["b"] == TenantSettings()


@pytest.mark.parametrize(
    "tenants",
    [
        {"": {}},
        {"a b": {}},
        {"-a": {}},
        {"x" * 65: {}},
        {"a": {"weight": 0}},
        {"a": {"priority": "urgent"}},
        {"a": {"requests_per_minute": -1}},
        {"a": {"concurrency": 1}},
        {f"t{n}": {} for n in range(1001)},
    ],
)
def test_nonsense_is_refused(tenants: dict) -> None:
    with pytest.raises(ValidationError):
        AdmissionSettings.model_validate({"tenants": tenants})


def test_text_from_the_command_line_is_yaml() -> None:
    loaded = load(None, {}, {"admission.tenants": "{a: {weight: 3, tokens_per_minute: 1000}}"})
    tenant = loaded.settings.admission.tenants["a"]
    assert (tenant.weight, tenant.tokens_per_minute) == (3.0, 1000)


def test_it_survives_the_way_to_another_process() -> None:
    settings = Settings.model_validate({"admission": {"tenants": {"a": {"weight": 2}}}})
    assert Settings.model_validate(settings.model_dump()) == settings


def test_a_tenant_names_a_class_that_exists() -> None:
    tenants = {"a": {"slo_class": "batch"}, "b": {"slo_class": "default"}, "c": {}}
    Settings.model_validate({"slo": {"classes": {"batch": {}}}, "admission": {"tenants": tenants}})
    with pytest.raises(StartupError) as caught:
        load(None, {}, {"slo.classes": "{fast: {}}", "admission.tenants": "{a: {slo_class: slow}}"})
    (problem,) = caught.value.details
    assert "admission.tenants.a.slo_class is 'slow'" in problem
    assert problem.endswith("which has default, fast")
