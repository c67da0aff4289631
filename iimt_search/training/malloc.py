"""Lets worker processes keep freed memory for the next step instead of giving it back after each.

A training step allocates and frees the same large tensors each time; to fetch them from the system again,
page by page, is a few percent of its time. glibc reads these variables when a process starts; other C
libraries do not know them.
"""

import os
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
