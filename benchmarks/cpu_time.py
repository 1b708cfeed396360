"""Processor time of other processes, and of other machines on the same cores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_JIFFY_S = 0.01


def cpu_s(pid: int) -> float:
    """Of one process with all its threads that live."""
    # Nanoseconds per thread; the usual counters have steps of 10 ms.
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@dataclass(frozen=True, slots=True)
class Cores:
    """What the kernel counted for all cores since its start, in seconds."""

    busy: float
    stolen: float
    """While something was to run, the machine under this one ran something else."""

    @classmethod
    def now(cls) -> Cores:
        """As counted so far, in steps of 10 ms."""
        first = Path("/proc/stat").read_text().partition("\n")[0]
        user, nice, system, _, _, irq, soft_irq, stolen = map(int, first.split()[1:9])
        return cls((user + nice + system + irq + soft_irq) * _JIFFY_S, stolen * _JIFFY_S)

    def stretch_since(self, before: Cores) -> float:
        """How many times its processor time anything took meanwhile, for what was stolen of it."""
        busy, stolen = self.busy - before.busy, self.stolen - before.stolen
        return 1 + stolen / busy if busy > 0 else 1.0
