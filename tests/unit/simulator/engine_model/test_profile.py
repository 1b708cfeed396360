import copy
import json

import pytest

from simulator.engine_model.profile import (
    PrefillSample,
    Profile,
    ProfileError,
    StepSample,
    TransferSample,
    as_json,
    load_profile,
    parse_profile,
    save_profile,
)

PROFILE = Profile(
    "a test",
    1000,
    (
        PrefillSample(64, (0.02, 0.01, 0.03)),
        PrefillSample(1024, (0.1,)),
        PrefillSample(2048, (0.2,)),
        PrefillSample(256, (0.05,), cached=4096),
        PrefillSample(512, (0.4,), prompts=4),
    ),
    (StepSample(1, 512, 0.005), StepSample(8, 512, 0.006), StepSample(8, 2048, 0.007)),
    (TransferSample("WRITE", 65536, 5e9),),
)


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "profile.json"
    save_profile(PROFILE, path)
    assert load_profile(path) == PROFILE
    assert PROFILE.prefill[0].median_s == 0.02


def test_unknown_keys_are_left_alone():
    assert parse_profile(as_json(PROFILE) | {"more": 1}) == PROFILE


def test_transfer_rates_beside_a_text():
    data = as_json(PROFILE)
    del data["transfer"]
    row = {"op": "WRITE", "block_bytes": 65536, "GBps": 5.0}
    rows = [row | {"alloc": "cudaMalloc"}, row | {"alloc": "expandable"}]
    data["nixl_same_gpu_two_processes"] = {"about": "", "rows": rows}
    assert parse_profile(data) == PROFILE


@pytest.mark.parametrize(
    ("where", "value", "why"),
    [
        (("model",), None, "model is missing"),
        (("model", "kv_bytes_per_token"), 0, "model.kv_bytes_per_token"),
        (("prefill",), [], "prefill has to be a list"),
        (("prefill",), [{"tokens": 5, "seconds": [1]}], "three lengths"),
        (("prefill", 0), 5, r"prefill\[0\] is not an object"),
        (("prefill", 1, "tokens"), "many", r"prefill\[1\].tokens"),
        (("prefill", 1, "tokens"), True, r"prefill\[1\].tokens"),
        (("prefill", 1, "seconds"), [], r"prefill\[1\].seconds"),
        (("prefill", 1, "seconds"), [0], r"prefill\[1\].seconds"),
        (("prefill", 1, "seconds"), [float("nan")], r"prefill\[1\].seconds"),
        (("prefill_after_cached_prefix", 0, "cached_tokens"), -1, "cached_tokens"),
        (("batched_prefill",), "x", "batched_prefill"),
        (("decode_step",), [], "decode_step"),
        (("decode_step", 0, "seconds_per_step"), None, r"decode_step\[0\].seconds_per_step"),
        (("transfer", 0, "GBps"), -2, r"transfer\[0\].GBps"),
    ],
)
def test_bad_entries_are_named(where, value, why):
    data = copy.deepcopy(as_json(PROFILE))
    inner = data
    for step in where[:-1]:
        inner = inner[step]
    inner[where[-1]] = value
    with pytest.raises(ProfileError, match=why):
        parse_profile(data)


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ProfileError, match="No such file"):
        load_profile(tmp_path / "nothing")
    path = tmp_path / "profile.json"
    path.write_text("{")
    with pytest.raises(ProfileError, match="not JSON"):
        load_profile(path)
    path.write_text(json.dumps([1]))
    with pytest.raises(ProfileError, match=f"{path}: not a JSON object"):
        load_profile(path)
