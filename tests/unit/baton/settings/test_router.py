"""What the front door promises."""

import pytest
from pydantic import ValidationError

from baton.settings import RouterSettings, SloSettings


def test_longer_prompts_are_promised_less() -> None:
    slo = SloSettings(ttft_s=1.0, ttft_s_per_1000_tokens=0.5)
    assert (slo.ttft_of(0), slo.ttft_of(4000)) == (1.0, 3.0)


@pytest.mark.parametrize("wrong", [{"ttft_s": 0.0}, {"tpot_s": -1.0}, {"ttft_s": float("inf")}])
def test_promises_are_real_times(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SloSettings(**wrong)


def test_a_class_promises_what_it_says_and_else_the_same() -> None:
    slo = SloSettings.model_validate(
        {"ttft_s": 1.0, "tpot_s": 0.05, "percentile": 0.95, "classes": {"batch": {"ttft_s": 60}}}
    )
    batch = slo.of_class("batch")
    assert (batch.ttft_s, batch.tpot_s, batch.percentile) == (60.0, 0.05, 0.95)
    assert slo.of_class("default") is slo
    with pytest.raises(KeyError):
        slo.of_class("interactive")


@pytest.mark.parametrize(
    ("classes", "field"),
    [
        ({"a": {"ttft_s": 0}}, r"classes\.a\.ttft_s"),
        ({"a": {"tpot_s": -1}}, r"classes\.a\.tpot_s"),
        ({"a": {"ttft_s_per_1000_tokens": -1}}, r"classes\.a\.ttft_s_per_1000_tokens"),
        ({"a": {"percentile": 0.5}}, r"classes\.a\.percentile"),
        ({"a b": {}}, "classes"),
        ({"default": {}}, r"slo\.classes\.default"),
        ({f"c{n}": {} for n in range(16)}, "classes"),
    ],
)
def test_classes_that_cannot_be_are_refused(classes: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        SloSettings.model_validate({"classes": classes})


def test_policies_are_named() -> None:
    assert RouterSettings(policy="round_robin").policy == "round_robin"
    with pytest.raises(ValidationError):
        RouterSettings(policy="best")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, 8001),
        ({"port": 9000}, 9001),
        ({"port": 0}, 0),
        ({"port": 65535}, 0),
        ({"port": 9000, "grpc_port": 7}, 7),
        ({"port": 9000, "grpc_port": 0}, 0),
        ({"port": 9000, "grpc_port": 7, "grpc": False}, None),
    ],
)
def test_where_grpc_listens(given: dict[str, object], wanted: int | None) -> None:
    assert RouterSettings.model_validate(given).grpc_port_wanted == wanted


def test_two_servers_do_not_share_a_port() -> None:
    with pytest.raises(ValidationError, match=r"router\.grpc_port is 9000"):
        RouterSettings(port=9000, grpc_port=9000)
    assert RouterSettings(port=9000, grpc_port=9000, grpc=False).grpc_port_wanted is None


@pytest.mark.parametrize(
    ("tenants", "said"),
    [
        ({"acme": 0}, "front_tenants.acme"),
        ({"acme": 65536}, "front_tenants.acme"),
        ({"acme": 9000}, r"front_tenants\.acme is 9000"),
        ({"acme": 8101, "globex": 8101}, r"front_tenants\.globex is 8101"),
    ],
)
def test_tenants_have_ports_of_their_own(tenants: dict[str, int], said: str) -> None:
    asked = {"front": "rust", "grpc": False, "port": 9000}
    with pytest.raises(ValidationError, match=said):
        RouterSettings.model_validate({**asked, "front_tenants": tenants})
    RouterSettings.model_validate({**asked, "front_tenants": {"acme": 8101, "globex": 8102}})


def test_tenants_known_by_their_port_are_not_taken_on_trust_beside_it() -> None:
    with pytest.raises(ValidationError, match=r"set router\.grpc: false"):
        RouterSettings.model_validate({"front": "rust", "front_tenants": {"acme": 8101}})
