"""Large imports without the garbage collector, which would walk through all they have made so far.

Importing vLLM takes 9 to 12 s of processor time on slow cores; the collector is 2 s of it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection within; what was made within stays out of every later one."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
