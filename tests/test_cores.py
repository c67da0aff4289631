import threading
from collections.abc import Iterator

import pytest

from iimt_search import cores
from iimt_search.cores import in_threads


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "usable_cores", lambda: 3)


def test_in_order_and_at_once() -> None:
    together = threading.Barrier(3)  # passed by three threads only, or the test fails

    def work(number: int) -> int:
        together.wait(timeout=30)
        return number * number

    assert list(in_threads(work, range(9))) == [number * number for number in range(9)]
    assert list(in_threads(work, [])) == []


def test_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    made = in_threads(lambda number: number, items())
    assert [next(made) for _ in range(10)] == list(range(10))
    assert len(taken) <= 10 + 8 * 3
    made.close()
    assert len(taken) <= 10 + 8 * 3


def test_an_error_comes_at_its_turn() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    made = in_threads(work, range(100))
    assert [next(made) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(made)
