"""Memory that was freed waits in the process for the next step."""

import os
import platform
import subprocess
import sys

import pytest

# The bytes that the C library holds free, in 128 MiB that were allocated in eight blocks and freed again.
CODE = """
import ctypes, torch
from src.utils.memory import keep_freed_memory

class Account(ctypes.Structure):  # struct mallinfo2 of <malloc.h>
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split())]

account = ctypes.CDLL(None).mallinfo2
account.restype = Account
if {kept}:
    keep_freed_memory()
blocks = [torch.ones(2**22) for _ in range(8)]
del blocks
print(account().fordblks)
"""


@pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.33"), reason="asks glibc for its account")
def test_freed_blocks_stay_unless_the_environment_says_otherwise() -> None:
    def held(kept: bool, **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(kept=kept)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **environment},
        )
        return int(done.stdout)

    whole = 8 * 2**24
    assert held(True) >= whole
    assert held(False) < whole / 2
    assert held(True, MALLOC_MMAP_THRESHOLD_="65536") < whole / 2
