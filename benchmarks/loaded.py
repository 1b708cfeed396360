"""Imports what a run, owners of engines and engines on CPU import, once for all that are forked."""

import atexit
import gc
import os
from importlib import import_module

_MODULES = (
    "benchmarks.handoff_runs",
    "benchmarks.soak_run",
    "deploy.worker_process",
    "engine.core",
    "vllm.model_executor.models.llama",
    "vllm.v1.worker.cpu_worker",
)

# A sixth of the time would go to looking for garbage among what is there to stay; without the
# freeze each fork would do so once more, and copy all of it.
gc.disable()
for _name in _MODULES:
    import_module(_name)
gc.freeze()
gc.enable()
# Taking all of it down takes seconds, in which whoever started this waits for nothing.
atexit.register(os._exit, 0)
