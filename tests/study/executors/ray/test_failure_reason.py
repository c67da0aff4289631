import pytest

from iimt_search.errors import DataError, describe
from iimt_search.study.executors.ray.scheduler import failure_reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "2 worker(s) were killed due to the node running low on memory. Memory",
            "out of memory",
        ),
        (
            "The actor is temporarily unavailable: RpcError: Socket closed",
            "its node or its process",
        ),
        (
            "The actor died because its node has died.\nThe actor's node was terminated",
            "its node is gone",
        ),
        (
            "Worker exit: died unexpectedly by SIGKILL, or the kernel's OOM killer",
            "its process was killed",
        ),
        ("Failure # 1\nModuleNotFoundError: No module named 'x'", "could not go on: ModuleNotFoundError"),
        ("", "nobody knows why"),
    ],
)
def test_describes_a_death_in_one_line(text: str, said: str) -> None:
    found = failure_reason(text)
    assert said in found and "\n" not in found


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 8 TiB"), "out of memory: MemoryError: Unable to allocate 8 TiB"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
            "out of memory: RuntimeError: DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 1 bytes",
        ),
        (RuntimeError("CUDA out of memory. Tried"), "RuntimeError: CUDA out of memory. Tried"),
        (DataError("no such file"), "no such file"),
    ],
)
def test_says_out_of_memory_of_errors_that_mean_it(error: BaseException, said: str) -> None:
    assert describe(error, debug=False) == said
