"""`baton transport test` without processes: what is tested, what the figures mean, how it reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("nixl")

from baton.errors import StartupError, StartupFault
from baton.settings import Settings
from deploy import cli, commands, transport
from deploy.transport import BLOCK, Plan, examine, exit_code
from deploy.transport_pair import Logs
from deploy.transport_text import as_json, as_text, size
from kv_transfer.self_test import Verdict
from kv_transfer.transport_pair import Failed, Measured, Task

CMA = """
| a intra-node cfg#1 |
| remote memory write by ucp_put*(multi) from host memory to host |
| 0..inf | zero-copy | cma/memory |
| a intra-node cfg#1 |
| remote memory read by ucp_get*(multi) into host memory from host |
| 0..inf | software emulation | tcp/lo |
"""
PLAN = Plan((2**16,) * 8, None, "cpu")


class Pair:
    """Stands for two processes: WRITE at one rate, READ at another."""

    def __init__(self, write: float = 8.0, read: float = 1.0, failed: str = "") -> None:
        self.rates = {"WRITE": write, "READ": read}
        self.failed = failed
        self.tasks: list[Task] = []
        self.environ: dict[str, str] = {}

    def __call__(self, task: Task, environ: dict[str, str]) -> tuple[Any, Logs]:
        self.tasks.append(task)
        self.environ = environ
        if self.failed:
            return Failed(self.failed), Logs("", "UCX  ERROR no usable transports/devices")
        answers = [
            Measured(operation, shape, rate, 0.001)
            for shape in task.shapes
            for operation, rate in self.rates.items()
        ]
        return answers, Logs("", CMA)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Pair:
    made = Pair()
    monkeypatch.setattr(transport, "run_pair", made)
    return made


def settings(**kv_transfer: Any) -> Settings:
    return Settings.model_validate({"kv_transfer": {"connector": "baton", **kv_transfer}})


def text(plan: Plan, found: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(as_text(plan, found))
    return capture.get()


def test_the_pair_gets_the_workers_environment(pair: Pair) -> None:
    examine(settings(ucx_tls="tcp"), PLAN)
    assert pair.environ["UCX_TLS"] == "tcp"
    assert pair.environ["UCX_NET_DEVICES"] == "lo"
    assert pair.environ["UCX_PROTO_INFO"] == "y"
    env = {"env_vars": {"UCX_IB_GID_INDEX": "3"}}
    examine(Settings.model_validate({"cluster": {"runtime_env": env}}), PLAN)
    assert pair.environ["UCX_IB_GID_INDEX"] == "3"


@pytest.mark.parametrize(
    ("connector", "floor", "refuse", "verdict", "code"),
    [
        ("baton", 0, "refuse", Verdict.OK, 0),
        ("baton", 5, "refuse", Verdict.OK, 0),
        ("vllm-nixl-push", 5, "refuse", Verdict.OK, 0),
        ("vllm-nixl-pull", 5, "refuse", Verdict.REFUSED, 1),
        ("baton", 9, "refuse", Verdict.REFUSED, 1),
        ("baton", 9, "warn", Verdict.SLOW, 0),
    ],
)
def test_the_connector_s_operation_is_held_against_the_floor(
    pair: Pair, connector: str, floor: float, refuse: str, verdict: Verdict, code: int
) -> None:
    wanted = settings(connector=connector, min_gb_per_second=floor, on_slow_transport=refuse)
    found = examine(wanted, PLAN)
    assert found[0].verdict is verdict
    assert exit_code(found) == code
    assert connector in found[0].why
    assert f"min_gb_per_second is {floor:g}" in found[0].why


def test_on_a_gpu_its_memory_is_what_counts(pair: Pair) -> None:
    found = examine(settings(), Plan((2**20,), 4, "cuda"))
    assert [each.memory for each in found] == ["VRAM", "DRAM"]
    assert [task.memory for task in pair.tasks] == ["VRAM", "DRAM"]
    assert pair.tasks[0].most == {BLOCK: 4}
    assert pair.tasks[0].size >= 8 * 2**20
    assert "GPU memory: ok" in text(PLAN, found)


def test_what_people_read(pair: Pair) -> None:
    shown = text(PLAN, examine(settings(), PLAN))
    assert "one block: 512 KiB, 8 pieces of 64 KiB" in shown
    assert "cma" in shown
    assert "software emulation" in shown
    assert "host memory: ok. WRITE, as baton needs it, 8 GB/s" in shown


def test_what_programs_read(pair: Pair) -> None:
    page = json.loads(as_json(PLAN, examine(settings(), PLAN)))
    assert (page["verdict"], page["block_bytes"], page["pieces"]) == ("ok", 2**19, 8)
    write = page["memory"][0]["operations"][0]
    assert write["transports"] == ["cma"]
    assert write["gb_per_s"]["1 MiB"] == 8.0
    assert write["block_ms_p50"] == 1.0


def test_no_transfer_is_1_with_reason_and_remedy(pair: Pair) -> None:
    pair.failed = "nixlBackendError"
    found = examine(settings(ucx_tls="bogus"), PLAN)
    assert exit_code(found) == 1
    for word in ["'bogus'", "nixlBackendError", "UCX: no usable transports", "Name transports"]:
        assert word in text(PLAN, found)
    assert json.loads(as_json(PLAN, found))["verdict"] == "failed"


def test_without_nixl_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda name: None)
    assert cli.main(["transport", "test"]) == 1
    assert "NIXL is not installed" in capsys.readouterr().err


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "gpu_present", lambda: False)
    wanted = Settings.model_validate({"engine": {"device": "cuda"}})
    with pytest.raises(StartupError) as caught:
        transport.plan(wanted, 4096, None)
    assert caught.value.fault is StartupFault.DEVICE_WRONG


def test_a_given_size_needs_no_model() -> None:
    wanted = Settings.model_validate(
        {"engine": {"device": "cpu"}, "model": {"path": "nowhere/at/all"}}
    )
    assert transport.plan(wanted, 4096, 3) == Plan((4096,), 3, "cpu")


@pytest.mark.parametrize("words", [["--size", "0"], ["--size", "x"], ["--blocks", "-1"]])
def test_wrong_numbers_are_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["transport", "test", *words]) == 2
    assert "no number above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "words"), [(512, "512 bytes"), (2**16, "64 KiB"), (3 * 2**19, "1.5 MiB")]
)
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words
