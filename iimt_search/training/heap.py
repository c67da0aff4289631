"""Keeps freed memory for the next step instead of giving it back to the system after each."""

import ctypes
import sys

# glibc's names for mallopt's parameters.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc not to return memory that the next step will ask for again, page by page.

    A training step allocates and frees the same large tensors each time: a few percent of its time.

    Returns:
        Whether this C library could be told; on others nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(parameter, value)
        for parameter, value in (
            (_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
            (_TRIM_THRESHOLD, _LARGEST_INT),
            (_TOP_PAD, 64 << 20),
        )
    )
