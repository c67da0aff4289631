"""Control over BatchNorm's running statistics."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def running_statistics_held(model: nn.Module) -> Iterator[None]:
    """Let forward passes in training mode use batch statistics but not change the running ones."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    tracked = [layer.track_running_stats for layer in layers]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, was_tracked in zip(layers, tracked, strict=True):
            layer.track_running_stats = was_tracked
