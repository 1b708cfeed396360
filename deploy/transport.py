"""`baton transport test`: what carries KV between two processes on this machine, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from baton.settings import Settings, process_environ
from deploy.model import model_path
from deploy.transport_pair import run_pair
from engine.device import (
    choose_device,
    choose_dtype,
    cpu_has_bf16,
    gpu_present,
    installed_vllm,
)
from engine.kv_block import block_pieces
from engine.model_folder import read_model_folder
from kv_transfer.push import BatonPush
from kv_transfer.scratch import SCRATCH_BYTES, Shape
from kv_transfer.self_test import Floor, Verdict, Way, advice, judge
from kv_transfer.transport_pair import Failed, Measured, Task
from kv_transfer.ucx_words import Carrier, carrier_of, carriers, complaints, remedy

BLOCK = "block"
_FIXED = {"64 KiB": 2**16, "1 MiB": 2**20, "8 MiB": 2**23}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tested."""

    pieces: tuple[int, ...]
    """Of a block."""
    blocks: int | None
    """Most blocks in one transfer; None = as many as the self-test of a pair writes."""
    device: str
    """cpu or cuda: where the engines' KV is."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of memory; the engines' own first."""
        return ("VRAM", "DRAM") if self.device == "cuda" else ("DRAM",)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {BLOCK: self.pieces, **{name: (size,) for name, size in _FIXED.items()}}


@dataclass(frozen=True, slots=True)
class Row:
    """One operation's figures."""

    operation: str
    carrier: Carrier | None
    gb_per_s: Mapping[str, float]
    latency_s: float


@dataclass(frozen=True, slots=True)
class Found:
    """What the test of one kind of memory found."""

    memory: str
    rows: tuple[Row, ...]
    verdict: Verdict
    why: str = ""
    notes: tuple[str, ...] = ()
    """What UCX complained about."""


def plan(settings: Settings, block_bytes: int | None, blocks: int | None) -> Plan:
    """What to test: blocks of the configured model, or of the size given.

    Raises StartupError for a device or a model that is not there.
    """
    distribution, _ = installed_vllm()
    device = choose_device(settings.engine.device, gpu_present(), distribution)
    if block_bytes is not None:
        return Plan((block_bytes,), blocks, device)
    model = read_model_folder(model_path(settings))
    bf16 = device == "cpu" and cpu_has_bf16()
    dtype = choose_dtype(settings.model.dtype, model.dtype, device, bf16=bf16)
    return Plan(block_pieces(settings, model, device, dtype), blocks, device)


def examine(settings: Settings, plan: Plan) -> list[Found]:
    """One test per kind of memory."""
    return [_examine(settings, plan, memory) for memory in plan.kinds]


def exit_code(found: list[Found]) -> int:
    """1 when the engines' own kind of memory cannot be handed over, or must not be."""
    return 0 if found[0].verdict.usable else 1


def _examine(settings: Settings, plan: Plan, memory: str) -> Found:
    environ = {
        **process_environ(),
        **settings.cluster.runtime_env.get("env_vars", {}),
        **BatonPush(settings.kv_transfer).environment(settings.cluster.bind_host),
        "UCX_PROTO_INFO": "y",
        "UCX_LOG_FILE": "",
    }
    answers, logs = run_pair(_task(plan, memory), environ)
    notes = tuple(complaints(logs.target + logs.source))
    if isinstance(answers, Failed):
        return Found(memory, (), Verdict.FAILED, _no_transfer(settings, answers, notes), notes)
    found = carriers(logs.source)
    rows = tuple(_row(answers, name, found, plan) for name in ("WRITE", "READ"))
    verdict, why = _judged(settings, memory, rows)
    return Found(memory, rows, verdict, why, notes)


def _no_transfer(settings: Settings, failed: Failed, notes: tuple[str, ...]) -> str:
    tls = settings.kv_transfer.ucx_tls
    said = f"kv_transfer.ucx_tls is {tls!r}" if tls else "kv_transfer.ucx_tls is not set"
    return f"no transfer ({said}): {failed.error}. {remedy(notes)}".rstrip()


def _task(plan: Plan, memory: str) -> Task:
    block = Shape(plan.pieces)
    most = plan.blocks or block.room() // block.block_bytes
    size = max(most * block.block_bytes, SCRATCH_BYTES)
    return Task(memory, size, plan.shapes, {BLOCK: most})


def _row(measured: list[Measured], operation: str, all_of: list[Carrier], plan: Plan) -> Row:
    mine = [each for each in measured if each.operation == operation]
    latency = next(each.latency_s for each in mine if each.shape == BLOCK)
    carrier = carrier_of(all_of, operation, plan.pieces[0])
    return Row(operation, carrier, {each.shape: each.gb_per_s for each in mine}, latency)


def _judged(settings: Settings, memory: str, rows: tuple[Row, ...]) -> tuple[Verdict, str]:
    wanted = "READ" if settings.kv_transfer.connector == "vllm-nixl-pull" else "WRITE"
    row = next(row for row in rows if row.operation == wanted)
    floor = Floor.of(settings.kv_transfer)
    verdict = judge(row.gb_per_s[BLOCK], floor)
    why = (
        f"{wanted}, as {settings.kv_transfer.connector} needs it, {row.gb_per_s[BLOCK]:.3g} GB/s; "
        f"kv_transfer.min_gb_per_second is {floor.gb_per_s:g}"
    )
    if verdict is not Verdict.OK:
        tls = settings.kv_transfer.ucx_tls
        why += ". " + advice(Way("the peer", tls, memory, same_host=True))
    return verdict, why
