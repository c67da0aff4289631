"""The domain task contract: what training, validators, pruning and selection receive.

A :class:`DomainTask` cannot hold a label of its target's samples. The labels of a target domain are
reachable only through :mod:`iimt_search.data.sealed`, which the audit alone imports.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iimt_search.kinds import SampleKind

# uint8 for images, float16 for features, float32 for everything else.
Samples = NDArray[Any]
Labels = NDArray[np.int64]

# What the dimensions of one sample are, and the type of its values.
SAMPLE_DIMENSIONS: dict[SampleKind, int] = {"image": 3, "series": 2, "vector": 1, "features": 2}
SAMPLE_TYPES: dict[SampleKind, Any] = {
    "image": np.uint8,
    "series": np.float32,
    "vector": np.float32,
    "features": np.float16,
}


# A subset larger than this stays a view of its (memory-mapped) array instead of becoming a copy.
COPY_LIMIT_BYTES = 1 << 26


@dataclass(frozen=True)
class Note:
    """Something that a user should know of the data before anything is trained.

    Attributes:
        kind: one word of what it is about, such as ``batch`` or ``skipped``.
        message: for people; of a target nothing that tells its labels.
        warning: whether it is likely a mistake.
    """

    kind: str
    message: str
    warning: bool = True


@dataclass(frozen=True)
class Unlabelled:
    """Samples without labels.

    Attributes:
        x: images uint8 (M, channels, height, width), values 0 to 255; series float32
            (M, channels, length); vectors float32 (M, features); features float16 (M, views, features).
            May be memory-mapped.
        index: int64 (N,), which rows of ``x`` are meant, in order; None for all of them.
    """

    x: Samples
    index: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.x) if self.index is None else len(self.index)

    @property
    def nbytes(self) -> int:
        """Size of the meant samples in memory."""
        return len(self) * int(np.prod(self.x.shape[1:])) * self.x.dtype.itemsize

    def rows(self, at: NDArray[np.int64]) -> Samples:
        """Return a copy of the samples at ``at``, int64 (B,), counted among the meant ones."""
        return np.asarray(self.x[at if self.index is None else self.index[at]])

    def gather(self) -> Samples:
        """Return all meant samples as one array."""
        return self.x if self.index is None else np.asarray(self.x[self.index])

    def release(self) -> None:
        """Give the memory of mapped samples back, after a pass over them; they are read again when used."""
        mapped = getattr(self.x, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def subset(self, at: NDArray[np.int64]) -> "Unlabelled":
        """Return the samples at ``at``: a copy where that is small, else a view."""
        chosen = at if self.index is None else self.index[at]
        part = Unlabelled(self.x, chosen)
        if part.nbytes > COPY_LIMIT_BYTES:
            return part
        copied = Unlabelled(part.gather())
        self.release()
        return copied


@dataclass(frozen=True)
class Labelled:
    """Samples with their labels.

    Attributes:
        x: as :class:`Unlabelled`.
        y: int64 (N,), class indices in [0, C), of the meant samples.
        index: as :class:`Unlabelled`.
    """

    x: Samples
    y: Labels
    index: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if len(self.unlabelled) != len(self.y):
            raise ValueError(
                f"x and y must have the same length, got {len(self.unlabelled)} and {len(self.y)}"
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def unlabelled(self) -> Unlabelled:
        """The samples alone."""
        return Unlabelled(self.x, self.index)

    def subset(self, at: NDArray[np.int64]) -> "Labelled":
        """Return the samples at ``at``, int64 (M,), with their labels."""
        part = self.unlabelled.subset(at)
        return Labelled(part.x, self.y[at], part.index)


@dataclass(frozen=True)
class Domain:
    """One domain with all the labels it has. Builders and a user's own Python function return one.

    It never leaves this package: :mod:`iimt_search.data.assemble` makes a task of two of them.

    Attributes:
        train: the samples that training may draw from.
        test: the samples that only the audit may read, where there are any.
        classes: class names, in label order; None where the domain has no labels at all.
        kind: of the samples.
        augmentation: name in :data:`iimt_search.kinds.AUGMENTATIONS` of what keeps its classes.
        fingerprint: SHA-256 over classes, training samples and their labels; set when it is prepared.
        sample_fingerprint: SHA-256 over the training samples alone.
        notes: what is to be told of its files and values.
        white_level: of images that were not of 8 bits the value that has become 255: an integer where they
            were of integers, else a float.
    """

    train: Labelled | Unlabelled
    test: Labelled | Unlabelled | None
    classes: tuple[str, ...] | None
    kind: SampleKind = "image"
    augmentation: str = "image"
    fingerprint: str = ""
    sample_fingerprint: str = ""
    notes: tuple[Note, ...] = ()
    white_level: int | float | None = None


@dataclass(frozen=True)
class DomainTask:
    """A source → target task as training sees it. It has no target label, by type.

    Attributes:
        name: such as ``source->target``.
        classes: class names, in label order.
        kind: of the samples.
        augmentation: name in :data:`iimt_search.kinds.AUGMENTATIONS`, the target's.
        source_train: labelled source samples to train on.
        source_val: labelled source samples held out for validators.
        target: target samples to adapt to, without labels. Validators score the same of them every time.
        fingerprint: SHA-256; two equal fingerprints are the same data in the same split.
        few_shot: labelled target samples that the user gave on purpose, to be scored, not trained on.
        notes: what is to be told of the domains' files and values before a training.
        white_level: of the target, as in :class:`Domain`.
    """

    name: str
    classes: tuple[str, ...]
    kind: SampleKind
    augmentation: str
    source_train: Labelled
    source_val: Labelled
    target: Unlabelled
    fingerprint: str
    few_shot: Labelled | None = None
    notes: tuple[Note, ...] = ()
    white_level: int | float | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch dimension."""
        return tuple(self.target.x.shape[1:])


def renumbered(y: Labels, names: Sequence[str], classes: Sequence[str]) -> Labels:
    """Return labels int64 (N,), indices into ``names``, as indices into ``classes``, which has every name."""
    return np.array([classes.index(name) for name in names], dtype=np.int64)[y]
