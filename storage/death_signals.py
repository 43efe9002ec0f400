"""The signal that a process gets from the kernel when its parent dies in whatever way.

Linux only, by prctl(2); elsewhere nothing is asked for. A request belongs to the process that makes
it: it outlives exec, but not a change of user. The kernel takes the end of the thread that forked
for the parent's death, so children are started on a thread that lives as long as the process.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def ask_for(number: signal.Signals) -> None:
    """Asks in this process; the parent may have died before."""
    if asked := _request(number):
        asked()


def death_note(number: signal.Signals) -> Callable[[], None] | None:
    """What a child of this process is to run between fork and exec: it asks, or ends if too late.

    Returns:
        A `preexec_fn`, one system call whose library is loaded before the fork; None elsewhere.
    """
    ask = _request(number)
    if ask is None:
        return None
    parent = os.getpid()

    def ask_in_time() -> None:
        ask()
        if os.getppid() != parent:  # it died before the request was in place
            os._exit(1)

    return ask_in_time


def _request(number: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
