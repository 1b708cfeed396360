"""The connectors of `three_connectors`, in engines that compute on all cores.

vLLM's NIXL connectors bind the thread that makes them to the last core of each NUMA node, to keep
it from the cores that OpenMP's threads have. An engine with one thread computes on that very
thread, so all engines of a machine would share one core, and with them what the connector that is
made second starts. Baton's engines are not bound, and what is measured here is not that.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks import three_connectors


class _OnAllCores:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cores = os.sched_getaffinity(0)
        try:
            super().__init__(*args, **kwargs)
        finally:
            os.sched_setaffinity(0, cores)


class Pull(_OnAllCores, three_connectors.Pull):
    """vLLM's pull without a progress thread."""


class LoudPull(_OnAllCores, three_connectors.LoudPull):
    """vLLM's pull as it comes."""


class Push(_OnAllCores, three_connectors.Push):
    """vLLM's push without a progress thread."""


class LoudPush(_OnAllCores, three_connectors.LoudPush):
    """vLLM's push as it comes."""


class ThreeConnectors(three_connectors.ThreeConnectors):
    """All of them in one engine."""
