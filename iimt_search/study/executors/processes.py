"""What processes that an executor starts begin with: Ctrl-C left to the driver, and freed memory kept.

A training step allocates and frees the same large tensors each time; to fetch them from the system again,
page by page, is a few percent of its time. glibc reads its variables when a process starts; other C
libraries do not know them.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the largest that it takes
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Let processes that are started within the block keep freed memory, unless the user has set how."""
    added = {name: value for name, value in KEEP_FREED_MEMORY.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def signals_kept(ignore_interrupts: bool = False) -> Iterator[None]:
    """Put signal handlers back after the block, whatever it does to them; only the main thread may.

    Args:
        ignore_interrupts: processes that are started within the block are born with Ctrl-C ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if ignore_interrupts:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
