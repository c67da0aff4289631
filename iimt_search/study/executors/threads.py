"""Work on many models of one process at once, without training: a thread a core."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from iimt_search.study.executors.choose import usable_cores

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
    pool = ThreadPoolExecutor(usable_cores(), initializer=_one_thread)
    try:
        with threadpool_limits(1):
            results = []
            for result in pool.map(function, items):
                results.append(result)
                progress(len(results))
            return results
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
