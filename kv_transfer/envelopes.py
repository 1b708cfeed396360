"""What travels inside vLLM between the connector's two halves, in vLLM's own envelopes.

One of the few files that touch vLLM's internals (covered by the engine contract tests).
"""

from __future__ import annotations

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorStats

from kv_transfer.orders import Orders


class StepOrders(KVConnectorMetadata):
    """One step's orders on their way from the scheduler's half to each rank's worker half."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders


class News(KVConnectorWorkerMetadata):
    """Of decode legs on some rank, on their way from the worker's half to the scheduler's: those
    that may be given blocks, and those whose load has failed there. Request ids."""

    def __init__(self, admitted: set[str], failed: set[str]) -> None:
        self.admitted, self.failed = admitted, failed

    def aggregate(self, other: KVConnectorWorkerMetadata) -> News:
        assert isinstance(other, News)
        return News(self.admitted | other.admitted, self.failed | other.failed)


class RankEndpoint(KVConnectorHandshakeMetadata):
    """Where one rank's blocks lie, on its way to the scheduler's half."""

    def __init__(self, endpoint: bytes) -> None:
        self.endpoint = endpoint


class TransferStats(KVConnectorStats):
    """`TransferReport`s on their way to the engine's owner: totals of each rank, so that the latest
    one of each counts."""

    def reset(self) -> None:
        self.data.clear()

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        return TransferStats({**self.data, **other.data})

    def reduce(self) -> dict[str, int | float]:
        return {}

    def is_empty(self) -> bool:
        return not self.data
