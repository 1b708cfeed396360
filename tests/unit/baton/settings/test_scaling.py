"""Settings of scaling: what is understood and what is refused, with the field named."""

import pytest

from baton.errors import StartupError
from baton.settings import ScalingSettings, Settings
from baton.settings.load import load


def refused(**overrides) -> str:
    given = {key.replace("__", "."): str(value) for key, value in overrides.items()}
    with pytest.raises(StartupError) as caught:
        load(None, {}, given)
    return " ".join(caught.value.details)


def test_nothing_scales_unless_asked():
    assert ScalingSettings().mode == "manual"
    assert load(None, {"BATON_SCALING__MODE": "auto"}).settings.scaling.mode == "auto"


@pytest.mark.parametrize("pool", ["prefill", "decode"])
def test_a_minimum_above_the_maximum_is_refused(pool):
    given = {f"scaling__{pool}_min_workers": 5, f"scaling__{pool}_max_workers": 4}
    assert f"scaling.{pool}_min_workers is 5" in refused(**given)


def test_a_budget_below_the_minimum_is_refused():
    given = {"scaling__gpu_budget": 3, "engine__tensor_parallel_size": 2}
    assert "scaling.gpu_budget is 3" in refused(**given)
    assert load(None, {}, {"scaling.gpu_budget": "4"}).settings.scaling.gpu_budget == 4
    on_cpu = {"scaling.gpu_budget": "1", "engine.device": "cpu"}
    assert load(None, {}, on_cpu).settings.scaling.gpu_budget == 1
    own = {"scaling__gpu_budget": 3, "prefill__gpus_per_worker": 2, "decode__gpus_per_worker": 2}
    assert "scaling.gpu_budget is 3" in refused(**own)


@pytest.mark.parametrize("key", ["slo.ttft_s", "slo.tpot_s", "slo.percentile", "slo.window_s"])
def test_a_promise_of_nothing_is_refused(key):
    assert key in refused(**{key.replace(".", "__"): 0})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mode", "sometimes"),
        ("decode_max_workers", 0),
        ("prefill_min_workers", -1),
        ("interval_s", 0),
        ("headroom", -0.1),
        ("hold_band", 1),
        ("kv_utilization", 1.1),
        ("latency_margin", 0),
        ("stale_after_s", 0),
        ("utilisation", 0.5),
    ],
)
def test_nonsense_is_refused(key, value):
    assert f"scaling.{key}" in refused(**{f"scaling__{key}": value})


def test_zero_has_to_be_meant():
    assert "scaling.decode_min_workers is 0" in refused(scaling__decode_min_workers=0)
    given = {"scaling.decode_min_workers": "0", "scaling.zero_after_s": "600"}
    assert load(None, {}, given).settings.scaling.decode_min_workers == 0


def test_a_start_outside_the_bounds_is_refused():
    said = refused(scaling__mode="auto", decode__workers=9)
    assert "decode.workers is 9" in said
    assert "scaling.decode_max_workers" in said
    assert load(None, {}, {"decode.workers": "9"}).settings.decode.workers == 9


def test_it_survives_the_way_to_another_process():
    settings = Settings.model_validate({"scaling": {"mode": "auto", "headroom": 0.5}})
    assert Settings.model_validate(settings.model_dump()) == settings
