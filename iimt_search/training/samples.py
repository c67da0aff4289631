"""Samples as training reads them: on the device where they fit, else in pieces from disk."""

from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.data.task import Unlabelled

# Larger sets stay memory-mapped, and each batch is read when it is needed.
RESIDENT_BYTES = 1 << 30


class Samples:
    """The samples of one part of a task.

    Args:
        part: the samples.
        device: where batches are wanted.
    """

    def __init__(self, part: Unlabelled, device: torch.device) -> None:
        self._part, self._device = part, device
        self._resident: Tensor | None = None
        if part.nbytes <= RESIDENT_BYTES:
            self._resident = torch.from_numpy(np.array(part.gather())).to(device)

    def __len__(self) -> int:
        return len(self._part)

    def rows(self, at: NDArray[np.int64]) -> Tensor:
        """Return the samples at ``at``, int64 (B,), on the device."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(at).to(self._device)]
        return torch.from_numpy(self._part.rows(at)).to(self._device)


_SHARED: WeakValueDictionary[tuple[int, int, torch.device], Samples] = WeakValueDictionary()


def shared_samples(part: Unlabelled, device: torch.device) -> Samples:
    """Return the samples of a part, the same object to all trainings on a device that use it at a time."""
    # What is found keeps its arrays alive, so that no others can have their identities.
    key = (id(part.x), id(part.index), device)
    found = _SHARED.get(key)
    if found is None:
        found = _SHARED[key] = Samples(part, device)
    return found


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` evenly spaced indices into ``count`` samples, always the same."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)
