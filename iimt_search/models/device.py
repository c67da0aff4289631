"""Where networks compute, on how many cores, and in which arithmetic."""

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits
from torch import nn

from iimt_search.cores import in_threads
from iimt_search.errors import UsageError


def resolve_device(device: str) -> str:
    """Return ``auto`` resolved: the first GPU where there is one, else the processor; others as they are.

    Raises:
        UsageError: a GPU that this machine does not have.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UsageError(f"`device={device}`: PyTorch finds no CUDA device here")
        index = int(device.partition(":")[2] or 0)
        if index >= count:
            raise UsageError(f"`device={device}`: PyTorch finds cuda:0 to cuda:{count - 1} here")
    return device


def local_gpus() -> list[str]:
    """Return this machine's GPUs that PyTorch may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(at) for at in range(count)] if visible is None else visible.split(",")
    return [name.strip() for name in names][:count]


# In which a training's products are computed; its weights and losses are float32 in any case.
FLOAT32, BFLOAT16 = "float32", "bfloat16"

# bfloat16 in hardware halves a step at least; without it, it is slower. Nothing lies near this bound.
_WORTH_IT = 1.3
_ROUNDS = 30


def _in_hardware() -> bool:
    """Return whether the processor multiplies bfloat16 itself; no other is faster with it."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in known)
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _shortest(*works: Callable[[], None]) -> list[float]:
    """Return each work's shortest time in seconds, by turns: what else runs here makes none shorter."""
    for work in works:
        work()
    shortest = [float("inf")] * len(works)
    for _ in range(_ROUNDS):
        for at, work in enumerate(works):
            began = time.thread_time()
            work()
            shortest[at] = min(shortest[at], time.thread_time() - began)
    return shortest


@cache
def _measured_faster(threads: int) -> bool:
    """Measure a small convolution forward and backward in both arithmetics, a few milliseconds each."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        convolution = nn.Conv2d(32, 32, 3, padding=1).to(memory_format=torch.channels_last)
        x = torch.randn(64, 32, 8, 8).contiguous(memory_format=torch.channels_last)

        def step(enabled: bool) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                loss = convolution(x).float().square().mean()
            loss.backward()
            convolution.zero_grad()

        float32, bfloat16 = _shortest(lambda: step(False), lambda: step(True))
        return float32 > _WORTH_IT * bfloat16


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes bfloat16 products in hardware: on any load, the same answer."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _in_hardware()


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether to train with bfloat16 matrix products (weights and losses stay float32).

    Args:
        precision: ``float32``, ``bfloat16`` or ``auto``: bfloat16 on a GPU that has it, and on a processor
            that has it where a short measurement finds it faster, once a process.
        device: where the training runs.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return has_bfloat16(device)
    return has_bfloat16(device) and _measured_faster(torch.get_num_threads())


Item = TypeVar("Item")
Result = TypeVar("Result")


def _one_thread() -> None:
    threadpool_limits(1)  # OpenMP keeps this for each thread


def each_on_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Give ``function`` of each item, in order, computed by a thread on every core, without training.

    Libraries compute with one thread each meanwhile: what is computed does not depend on the number of cores.

    Args:
        function: called by several threads at once.
        items: taken one by one.

    Raises:
        Exception: the first that ``function`` raises; what has not begun by then never does.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield from in_threads(function, items, _one_thread)
    finally:
        torch.set_num_threads(threads)
        with suppress(AttributeError, OSError, TypeError):  # glibc keeps what ended threads had
            ctypes.CDLL(None).malloc_trim(0)


def on_all_cores(
    function: Callable[[Item], Result], items: Iterable[Item], progress: Callable[[int], None]
) -> list[Result]:
    """Return what :func:`each_on_cores` gives; ``progress`` takes how many are done."""
    results = []
    for result in each_on_cores(function, items):
        results.append(result)
        progress(len(results))
    return results
