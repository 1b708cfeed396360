"""Becomes another program that dies with the thread that started this one.

usage: python -I -S tethered.py PARENT_PID PROGRAM [ARGUMENT ...]
The kernel's parent-death signal outlives the change of program, so that no second process watches.
It fires when the starting *thread* ends: whoever starts this does so on a thread that lives as long
as what it starts is of use.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent_pid: int, command: list[str]) -> None:
    """Does not return. Raises OSError when the program cannot be started."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "no parent-death signal")
    # A parent that died before sends none.
    if os.getppid() != parent_pid:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
