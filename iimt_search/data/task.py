"""The domain task contract: what training, validators, pruning and selection receive.

None of these types can hold a target label. The labels of a target domain are reachable only
through :mod:`iimt_search.data.sealed`, which the audit alone imports.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Samples with their labels.

    Attributes:
        x: uint8 (N, channels, height, width), values 0 to 255.
        y: int64 (N,), class indices in [0, C).
    """

    x: Samples
    y: Labels

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"x and y must have the same length, got {len(self.x)} and {len(self.y)}")

    def __len__(self) -> int:
        return len(self.y)

    def subset(self, index: NDArray[np.int64]) -> "Labelled":
        """Return the samples at ``index``, int64 (M,)."""
        return Labelled(self.x[index], self.y[index])


@dataclass(frozen=True)
class Unlabelled:
    """Samples without labels.

    Attributes:
        x: uint8 (N, channels, height, width), values 0 to 255.
    """

    x: Samples

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Domain:
    """One domain with all of its labels, as its builder makes it. It never leaves the data floor.

    Attributes:
        train: the samples that training may draw from.
        test: the samples that only the audit may read.
        classes: class names, in label order.
        augmentation: name in :data:`iimt_search.data.augment.AUGMENTATIONS` of what keeps its classes.
    """

    train: Labelled
    test: Labelled
    classes: tuple[str, ...]
    augmentation: str


@dataclass(frozen=True)
class DomainTask:
    """A source → target task as training sees it. It has no target label, by type.

    Attributes:
        name: ``source->target``.
        classes: class names, in label order.
        augmentation: name in :data:`iimt_search.data.augment.AUGMENTATIONS`, the target's.
        source_train: labelled source samples to train on.
        source_val: labelled source samples held out for validators.
        target: target samples to adapt to, without labels. Every validator scores these, all of
            them and in this order.
        fingerprint: SHA-256 over all arrays above; two equal fingerprints are the same data.
    """

    name: str
    classes: tuple[str, ...]
    augmentation: str
    source_train: Labelled
    source_val: Labelled
    target: Unlabelled
    fingerprint: str

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch dimension."""
        return tuple(self.target.x.shape[1:])
