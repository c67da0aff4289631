"""What a training costs: seconds and memory that it takes, and the operations of its steps."""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from iimt_search.methods import needs_virtual_labels
from iimt_search.training.objective import Batch, loss_terms, predict_augmented

if TYPE_CHECKING:
    from iimt_search.training.task_training import TaskTraining


Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Spent:
    """What a training has taken so far.

    Attributes:
        seconds: of its steps; NaN where it goes on from a checkpoint of a version that did not measure.
        gpu_bytes: the most memory that PyTorch held on the GPU meanwhile; 0 on a processor.
    """

    seconds: float = math.nan
    gpu_bytes: int = 0


def _clock(device: torch.device) -> float:
    """Return seconds: of this process on its processors, or where a GPU computes for it, of the clock.

    Processor time does not pass while neighbours have the core.
    """
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def measured(device: torch.device, *spent: Spent) -> Iterator[None]:
    """Add what the block takes to each of ``spent``: an equal share of its seconds, and its memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began = _clock(device)
    try:
        yield
    finally:
        seconds = (_clock(device) - began) / len(spent)
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        for each in spent:
            each.seconds, each.gpu_bytes = each.seconds + seconds, max(each.gpu_bytes, peak)


def _shapes_alone(network: Network) -> Network:
    """Return a copy whose tensors have shapes and no values, which takes no memory."""
    bare: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in network.parameters()
    }
    bare |= {id(buffer): buffer.to("meta") for buffer in network.buffers()}
    return copy.deepcopy(network, bare)


def step_operations(training: "TaskTraining") -> int:
    """Count the floating-point operations of one training step, without doing it.

    Those of matrix products and convolutions, forward and backward, as PyTorch counts them: the same on every
    machine, and whatever else runs there.
    """
    from torch.utils.flop_counter import FlopCounterMode  # brings a compiler along, which takes seconds

    settings, rows = training.settings, training.settings.batch_size
    model, discriminator = _shapes_alone(training.model), _shapes_alone(training.discriminator)
    one = training.target_rows(np.zeros(1, dtype=np.int64))
    x = torch.empty((rows, *one.shape[1:]), dtype=one.dtype, device="meta")
    labels = x.new_empty((rows, len(training.task.classes)))
    orders = torch.empty((2, rows), dtype=torch.int64, device="meta")
    batch = Batch(x, labels, x, x.new_empty((3, rows)), orders)
    with FlopCounterMode(display=False) as counter:
        virtual = needs_virtual_labels(settings)
        if virtual and training.teacher is None:
            predict_augmented(model, x.repeat(settings.k, *[1] * (x.dim() - 1)), settings.k)
        terms = loss_terms(model, discriminator, batch, labels if virtual else None, 1.0, settings)
        torch.stack(list(terms.values())).sum().backward()
    return settings.accumulate * int(counter.get_total_flops())
