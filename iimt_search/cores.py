"""The processor cores that this process may use, and work that is spread over all of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

# Begun ahead of what is asked for, for each thread: none waits for a slow one.
_AHEAD = 8


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    work: Callable[[_Item], _Made], items: Iterable[_Item], begin: Callable[[], object] | None = None
) -> Iterator[_Made]:
    """Give what ``work`` makes of each item, in order, from a thread on every usable core.

    For work that releases Python's lock, as decoding images does. Few items are begun ahead of what is asked
    for, so that memory stays bounded; an error in ``work`` is raised at its item's turn, and no item after it
    is begun.

    Args:
        work: takes an item; called in several threads at once.
        items: taken one by one, in the caller's thread.
        begin: called once in each thread, first.
    """
    threads = usable_cores()
    begun: deque[Future[_Made]] = deque()
    pool = ThreadPoolExecutor(threads, initializer=begin)
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) > _AHEAD * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
