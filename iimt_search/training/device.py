"""Where to compute."""

import torch

from iimt_search.errors import UsageError


def usable_device(device: str) -> str:
    """Return ``auto`` resolved: the first GPU where there is one, else the processor; others as they are.

    Raises:
        UsageError: a GPU that this machine does not have.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise UsageError(f"--device {device}: PyTorch finds no CUDA device here")
        index = int(device.partition(":")[2] or 0)
        if index >= count:
            raise UsageError(f"--device {device}: PyTorch finds cuda:0 to cuda:{count - 1} here")
    return device
