"""Work on many models of one process at once, without training: a thread a core."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from iimt_search.cores import in_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


def _one_thread() -> None:
    threadpool_limits(1)  # OpenMP keeps this for each thread


def on_all_cores(
    function: Callable[[Item], Result], items: Iterable[Item], progress: Callable[[int], None]
) -> list[Result]:
    """Return ``function`` of each item, in order.

    Libraries compute with one thread each meanwhile: what is computed does not depend on the number of cores.

    Args:
        function: called by several threads at once.
        items: as many as there are.
        progress: takes how many are done.

    Raises:
        Exception: the first that ``function`` raises; what has not begun by then never does.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            results = []
            for result in in_threads(function, items, _one_thread):
                results.append(result)
                progress(len(results))
            return results
    finally:
        torch.set_num_threads(threads)
