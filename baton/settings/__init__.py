"""Settings: one strict YAML file, environment overrides, and the models behind them.

`model` says what can be set, `sources` where values come from, `load` merges and checks them,
`render` shows them, `commands` is what the command line calls. Nothing else in Baton reads the
environment or a settings file; everybody else is handed a frozen `Settings`.
"""

from baton.settings.load import Loaded, load
from baton.settings.model import (
    ClusterSettings,
    EngineSettings,
    KvTransferSettings,
    LogSettings,
    ModelSettings,
    Settings,
)
from baton.settings.pool import PoolSettings
from baton.settings.router import RouterSettings, SloSettings
from baton.settings.scaling import ScalingSettings
from baton.settings.sources import extend_process_environ, process_environ

__all__ = [
    "ClusterSettings",
    "EngineSettings",
    "KvTransferSettings",
    "Loaded",
    "LogSettings",
    "ModelSettings",
    "PoolSettings",
    "RouterSettings",
    "ScalingSettings",
    "Settings",
    "SloSettings",
    "extend_process_environ",
    "load",
    "process_environ",
]
