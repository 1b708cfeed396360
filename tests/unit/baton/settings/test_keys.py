"""Names come from the models, and a near miss finds the name that was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.settings import keys

known_keys = st.sampled_from(sorted(keys.FIELDS))


def test_names() -> None:
    assert keys.env_name("router.port") == "BATON_ROUTER__PORT"
    assert keys.ENV_NAMES["BATON_KV_TRANSFER__UCX_TLS"] == "kv_transfer.ucx_tls"
    assert len(keys.ENV_NAMES) == len(keys.FIELDS)


def test_what_a_setting_takes() -> None:
    assert keys.takes_text("cluster.name")
    assert keys.takes_text("model.path")
    assert not keys.takes_text("log.level")
    assert not keys.takes_text("engine.extra_args")
    assert not keys.takes_text("router.allow_origins")
    assert keys.takes_null("model.path")
    assert not keys.takes_null("cluster.name")


@given(known_keys, st.data())
def test_a_slip_of_one_letter_gets_a_suggestion(key: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(key) - 1))
    wrong = key[:at] + key[at + 1 :]
    suggestion = keys.nearest(wrong, keys.FIELDS)
    assert suggestion in keys.FIELDS


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("router.prot", "router.port"),
        ("engine.port", "router.port"),
        ("prefil.workers", "prefill.workers"),
        ("decod.workers", "decode.workers"),
        ("engine.kv_cache_gb", "engine.kv_cache_gib"),
    ],
)
def test_what_was_meant(wrong: str, meant: str) -> None:
    assert keys.unknown(wrong, keys.FIELDS) == f"{wrong}: unknown; did you mean {meant}?"


def test_nothing_near() -> None:
    assert keys.unknown("zzz", ["router", "log"]) == "zzz: unknown; allowed: router, log"
    assert "baton config show" in keys.unknown("zzz", keys.FIELDS)
