"""The transport self-test of one pair: how fast this engine writes into a peer's memory.

A few writes of whole blocks into the peer's scratch memory, twice as many blocks each time. Driven
by the mover's thread, a turn at a time; no turn waits for the peer. What the figure means for the
pair is a pure decision, `judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import Any, Protocol

from baton.clock import Clock
from baton.errors import BatonError
from baton.settings.model import KvTransferSettings
from kv_transfer.agent import WriteState
from kv_transfer.scratch import SCRATCH_BYTES

PROBE = b"\x00probe"
"""Asks a peer for a sign of life: a write may end well although the peer has stopped."""
ECHO = b"\x00echo"
"""The answer to PROBE."""

# While a write is under way a turn asks for it this often, so that the time is not that of naps:
# about one millisecond together.
_LOOKS_PER_TURN = 200
_ASK_AGAIN_S = 0.25


class ScratchPort(Protocol):
    """What the test needs of NIXL."""

    def write_scratch(self, peer: str, blocks: int) -> Any:
        """Post a write of so many blocks into the peer's scratch memory; returns its handle.

        Raises BatonError TRANSFER_FAILED when nothing was posted.
        """

    def state(self, handle: Any) -> WriteState: ...

    def release(self, handle: Any) -> None: ...

    def tell(self, peer: str, message: bytes) -> bool: ...


class Verdict(Enum):
    """What a test found."""

    OK = "ok"
    SLOW = "slow"
    """Below the floor, and the settings say to go on."""
    REFUSED = "refused"
    """Below the floor, and the settings say to hand nothing over."""
    SILENT = "silent"
    """The peer did not answer, or a write did not end, in time."""
    FAILED = "failed"
    """No write could be made."""

    @property
    def usable(self) -> bool:
        """Whether KV may be handed over."""
        return self in (Verdict.OK, Verdict.SLOW)


@dataclass(frozen=True, slots=True)
class Floor:
    """The rate that is asked for. 0 asks for nothing."""

    gb_per_s: float = 0.0
    refuse: bool = False

    @classmethod
    def of(cls, settings: KvTransferSettings) -> Floor:
        return cls(settings.min_gb_per_second, settings.on_slow_transport == "refuse")


@dataclass(frozen=True, slots=True)
class TestLimits:
    """How much is written, and how long is waited."""

    __test__ = False  # Its name looks like a test's.

    enough_s: float = 0.02
    """A write that takes as long is long enough to be trusted."""
    write_bytes: int = SCRATCH_BYTES
    """Most in one write."""
    repeats: int = 3
    """Writes of the largest size."""
    patience_s: float = 5.0
    """Time for the whole test."""


@dataclass(frozen=True, slots=True)
class Way:
    """What is known of how memory gets to a peer, for sentences."""

    peer: str
    ucx_tls: str | None
    memory: str
    """NIXL's name of the kind of memory: DRAM or VRAM."""
    same_host: bool

    def __str__(self) -> str:
        kind = "GPU memory" if self.memory == "VRAM" else "host memory"
        place = "on this host" if self.same_host else "on another host"
        allowed = f"UCX_TLS={self.ucx_tls}" if self.ucx_tls else "UCX's choice of transports"
        return f"{kind} of {self.peer} {place} over {allowed}"


@dataclass(frozen=True, slots=True)
class PairResult:
    """What the test of one pair found."""

    gb_per_s: float
    """10^9 bytes a second, in whole blocks. 0 where nothing was measured."""
    writes: int
    seconds: float
    """How long the test took."""
    verdict: Verdict
    why: str = ""
    """What kept a test from ending."""


@dataclass(slots=True)
class _Write:
    handle: Any
    blocks: int
    posted_at: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One write that ended well."""

    blocks: int
    seconds: float


@dataclass(slots=True)
class _Times:
    """On the test's clock; None before the first turn."""

    began: float | None = None
    moved: float = 0.0
    """When something last went on: an answer, the end of a write."""
    asked: float = 0.0


@dataclass(slots=True)
class PairTest:
    """One test. `turn` it until it returns a result; it then holds nothing any more."""

    port: ScratchPort
    peer: str
    block_bytes: int
    clock: Clock
    floor: Floor = Floor()
    limits: TestLimits = TestLimits()
    _times: _Times = field(default_factory=_Times)
    _answered: bool = False
    _warm: bool = False
    """Whether a write has ended: the first one pays for the connection, and does not count."""
    _write: _Write | None = None
    _samples: list[Sample] = field(default_factory=list)

    def heard(self) -> None:
        """The peer sent ECHO."""
        if not self._answered:
            self._answered = True
            self._times.moved = self.clock.now()

    def turn(self) -> PairResult | None:
        """One step; None while the test goes on."""
        now = self.clock.now()
        if self._times.began is None:
            self._times.began = self._times.moved = now
            self._ask(now)
        if now - self._times.moved > self.limits.patience_s:
            return self._given_up()
        if not self._answered:
            if now - self._times.asked >= _ASK_AGAIN_S:
                self._ask(now)
            return None
        return self._post(now) if self._write is None else self._look(self._write)

    def abandon(self) -> None:
        """Let go of what is under way. A posted write ends by itself, in nobody's memory."""
        if self._write is not None:
            self.port.release(self._write.handle)
            self._write = None

    def _ask(self, now: float) -> None:
        """More than once, because a peer cannot answer before it knows who asks."""
        self._times.asked = now
        self.port.tell(self.peer, PROBE)

    def _post(self, now: float) -> PairResult | None:
        blocks = next_blocks(self._samples, self.block_bytes, self.limits)
        if blocks is None or self._late(now):
            return self._ended(judge(rate(self._samples, self.block_bytes), self.floor))
        try:
            handle = self.port.write_scratch(self.peer, blocks)
        except BatonError as error:
            return self._ended(Verdict.FAILED, error.message)
        self._write = _Write(handle, blocks, now)
        return self._look(self._write)

    def _late(self, now: float) -> bool:
        began = self._times.began
        return bool(self._samples) and began is not None and now - began > self.limits.patience_s

    def _look(self, write: _Write) -> PairResult | None:
        for _ in range(_LOOKS_PER_TURN):
            state = self.port.state(write.handle)
            if state is not WriteState.UNDER_WAY:
                return self._over(write, state)
        return None

    def _over(self, write: _Write, state: WriteState) -> PairResult | None:
        now = self.clock.now()
        self.abandon()
        if state is WriteState.FAILED:
            return self._ended(Verdict.FAILED, "a write failed")
        self._times.moved = now
        if self._warm:
            self._samples.append(Sample(write.blocks, now - write.posted_at))
        self._warm = True
        return None

    def _given_up(self) -> PairResult:
        self.abandon()
        what = "took no write" if self._answered else "gave no answer"
        return self._ended(Verdict.SILENT, f"{what} within {self.limits.patience_s:g} s")

    def _ended(self, verdict: Verdict, why: str = "") -> PairResult:
        now = self.clock.now()
        took = now - (now if self._times.began is None else self._times.began)
        measured = rate(self._samples, self.block_bytes)
        return PairResult(measured, len(self._samples), took, verdict, why)


def next_blocks(samples: Sequence[Sample], block_bytes: int, limits: TestLimits) -> int | None:
    """Blocks of the next write; None when there has been enough.

    One, then twice as many each time until a write is long enough or as large as may be. The
    smallest and the largest size a few times, since anything can take long once.
    """
    if not samples:
        return 1
    blocks = samples[-1].blocks
    same = [s.seconds for s in samples if s.blocks == blocks]
    largest = max(1, limits.write_bytes // block_bytes)
    at_top = blocks >= largest or min(same) >= limits.enough_s
    very_slow = len(same) > 1 and min(same) >= 10 * limits.enough_s
    if very_slow or (at_top and len(same) >= limits.repeats):
        return None
    if at_top or (blocks == 1 and len(same) < limits.repeats):
        return blocks
    return min(2 * blocks, largest)


def rate(samples: Sequence[Sample], block_bytes: int) -> float:
    """10^9 bytes a second, from the largest writes, without what a write takes whatever its size.

    On transports driven by the CPU that constant is mostly the nap of the peer's poller. It is the
    time of the quickest single block, and never more than half of what is taken from.
    """
    if not samples:
        return 0.0
    largest = samples[-1].blocks
    took = median(sorted(s.seconds for s in samples if s.blocks == largest)[:2])
    constant = min(s.seconds for s in samples if s.blocks == 1)
    net = max(took - constant * (1 - 1 / largest), took / 2)
    return largest * block_bytes / max(net, 1e-9) / 1e9


def judge(gb_per_s: float, floor: Floor) -> Verdict:
    """What a measured rate means under the settings' floor."""
    if gb_per_s >= floor.gb_per_s:
        return Verdict.OK
    return Verdict.REFUSED if floor.refuse else Verdict.SLOW


def sentence(result: PairResult, floor: Floor, way: Way) -> str:
    """The result in words, and what to do about it."""
    match result.verdict:
        case Verdict.OK:
            return f"{_figure(result)} into {way}"
        case Verdict.SLOW | Verdict.REFUSED:
            then = "nothing is handed over to it" if floor.refuse else "it is used all the same"
            return (
                f"{_figure(result)} into {way}, below kv_transfer.min_gb_per_second = "
                f"{floor.gb_per_s:g}: {then}. {advice(way)}"
            )
        case _:
            return f"no rate for {way}: it {result.why}. {advice(way)}"


def advice(way: Way) -> str:
    """What makes a pair faster."""
    if way.memory == "VRAM" and way.same_host:
        return (
            "Within a host GPU memory has to go over cuda_ipc: leave kv_transfer.ucx_tls unset or "
            "name tcp, cuda_ipc and cuda_copy in it, and have no expandable_segments in "
            "PYTORCH_ALLOC_CONF; `baton transport test` shows what carries it."
        )
    if way.same_host:
        return (
            "Within a host memory has to go over cma: leave kv_transfer.ucx_tls unset or set it "
            "to tcp,shm; containers need a common pid namespace and ptrace permission for it."
        )
    return (
        "Between hosts use RDMA (kv_transfer.ucx_tls unset, or rc naming its devices in "
        "UCX_NET_DEVICES), or put prefill and decode on one host."
    )


def _figure(result: PairResult) -> str:
    return f"{result.gb_per_s:.3g} GB/s in {result.writes} writes"
