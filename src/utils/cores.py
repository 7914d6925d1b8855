"""The cores of this machine."""

import os


def cores() -> int:
    """How many this process may use; not every system can say that, and then how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
