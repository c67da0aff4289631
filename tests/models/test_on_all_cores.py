import threading
import time

import pytest
import torch
from threadpoolctl import threadpool_info

from iimt_search.cores import usable_cores
from iimt_search.models.device import on_all_cores


def test_results_come_in_order_and_are_counted() -> None:
    done: list[int] = []

    def later(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert on_all_cores(later, range(5), done.append) == [0, 1, 4, 9, 16]
    assert done == [1, 2, 3, 4, 5]


def test_libraries_compute_with_one_thread_each_and_get_theirs_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def threads(_: int) -> int:
            return max(torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info()))

        assert on_all_cores(threads, range(4), lambda done: None) == [1, 1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(usable_cores() < 2, reason="one core")
def test_two_at_once() -> None:
    both = threading.Barrier(2, timeout=10)  # breaks where one waits for the other to end
    assert len(on_all_cores(lambda _: both.wait(), range(2), lambda done: None)) == 2


def test_the_first_error_ends_it() -> None:
    begun: list[int] = []

    def failing(item: int) -> None:
        begun.append(item)
        time.sleep(0.005)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        on_all_cores(failing, range(500), lambda done: None)
    assert len(begun) < 400
