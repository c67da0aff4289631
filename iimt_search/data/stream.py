"""A domain that is read in pieces while it is prepared, so that it may be larger than memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from iimt_search.data.task import Domain, Kind, Labelled, Labels, Samples, Unlabelled


@dataclass(frozen=True)
class PartStream:
    """The training or test part of a domain.

    Attributes:
        count: number of samples N.
        sample_shape: shape of one sample.
        chunks: gives the samples in order, in arrays of M samples each, of the type of their kind.
        y: labels int64 (N,), or None.
    """

    count: int
    sample_shape: tuple[int, ...]
    chunks: Callable[[], Iterator[Samples]]
    y: Labels | None


@dataclass(frozen=True)
class DomainStream:
    """A domain to be prepared.

    Attributes:
        train: the part that training may draw from.
        test: the part that only the audit may read, or None.
        classes: class names in label order, or None where there are no labels.
        kind: of the samples.
        augmentation: name of what keeps its classes.
    """

    train: PartStream
    test: PartStream | None
    classes: tuple[str, ...] | None
    kind: Kind
    augmentation: str


def _part(part: Labelled | Unlabelled) -> PartStream:
    y = part.y if isinstance(part, Labelled) else None
    return PartStream(len(part), tuple(part.x.shape[1:]), lambda: iter([part.x]), y)


def stream_of(domain: Domain) -> DomainStream:
    """Return a domain that is in memory as a stream."""
    test = None if domain.test is None else _part(domain.test)
    return DomainStream(_part(domain.train), test, domain.classes, domain.kind, domain.augmentation)
