"""Which arithmetic a training uses: bfloat16 where the device has it and is faster with it."""

import time
from collections.abc import Callable
from functools import cache
from statistics import median

import torch
from torch import nn

# bfloat16 in hardware halves a step at least; without it, it is slower. Nothing lies near this bound.
_WORTH_IT = 1.3
_ROUNDS = 5


def _seconds(work: Callable[[], None]) -> float:
    work()
    found = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return median(found)


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

        return _seconds(lambda: step(False)) > _WORTH_IT * _seconds(lambda: step(True))


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Return whether to train with bfloat16 matrix products (weights and losses stay float32).

    Args:
        precision: ``float32``, ``bfloat16`` or ``auto``: bfloat16 on a GPU that has it, and on a processor
            where a short measurement finds it faster, once a process.
        device: where the training runs.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _measured_faster(torch.get_num_threads())
