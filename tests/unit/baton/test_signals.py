"""Signals cross processes as they are."""

from __future__ import annotations

import pickle

from baton.signals import PoolSignals, RouterSignals


def test_signals_cross_a_process() -> None:
    signals = RouterSignals(PoolSignals(10.0, attained=(0.5, 1.5)), PoolSignals(kv_used=0.3), 2)
    assert pickle.loads(pickle.dumps(signals)) == signals
