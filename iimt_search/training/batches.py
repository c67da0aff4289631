"""What a training reads: samples on its device, their statistics, and what is sampled for one step."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.data.augment import Sampled
from iimt_search.data.task import DomainTask, Labels, Unlabelled
from iimt_search.iimt.mixup import mixing_coefficients
from iimt_search.kinds import SampleKind
from iimt_search.settings import TrainSettings

# Larger sets stay memory-mapped, and each batch is read when it is needed.
RESIDENT_BYTES = 1 << 30


class Affine(NamedTuple):
    """A map of each channel, x → factor · x + offset.

    Attributes:
        factor: float32, one a channel, in a shape that broadcasts over samples.
        offset: as ``factor``.
    """

    factor: Tensor
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return the mapped samples, float32."""
        return x.float().mul_(self.factor.to(x.device)).add_(self.offset.to(x.device))


class Samples:
    """The samples of one part of a task.

    Args:
        part: the samples.
        device: where batches are wanted.
        mapped: applied to every sample.

    Attributes:
        device: where batches are.
    """

    def __init__(self, part: Unlabelled, device: torch.device, mapped: Affine | None = None) -> None:
        self._part, self.device, self._mapped = part, device, mapped
        self._resident: Tensor | None = None
        if part.nbytes <= RESIDENT_BYTES:
            self._resident = self._on_device(np.array(part.gather()))
            part.release()

    def _on_device(self, rows: NDArray[Any]) -> Tensor:
        x = torch.from_numpy(rows).to(self.device)
        return x if self._mapped is None else self._mapped(x)

    def __len__(self) -> int:
        return len(self._part)

    def rows(self, at: NDArray[np.int64]) -> Tensor:
        """Return the samples at ``at``, int64 (B,), on the device."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(at).to(self.device)]
        return self._on_device(self._part.rows(at))


_SHARED: WeakValueDictionary[tuple[int, int, torch.device], Samples] = WeakValueDictionary()


def shared_samples(part: Unlabelled, device: torch.device) -> Samples:
    """Return the samples of a part, the same object to all trainings on a device that use it at a time."""
    # Samples keep their part's arrays alive, so that no others can have their identities.
    key = (id(part.x), id(part.index), device)
    samples = _SHARED.get(key)
    if samples is None:
        samples = _SHARED[key] = Samples(part, device)
    return samples


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` evenly spaced indices into ``count`` samples, always the same."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


# Samples of each domain that statistics are computed from.
_MEASURED = 20_000


def _statistics(kind: SampleKind, *parts: Unlabelled) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of each channel over evenly spaced samples of some parts."""
    x = torch.from_numpy(np.concatenate([part.rows(evenly_spaced(len(part), _MEASURED)) for part in parts]))
    over = (0, 2) if kind == "series" else (0,)
    deviation = x.double().std(dim=over, correction=0)
    return x.double().mean(dim=over).float(), torch.where(deviation > 1e-8, deviation, 1.0).float()


def channel_statistics(task: DomainTask, by_domain: bool = False) -> tuple[Tensor, Tensor] | None:
    """Return the mean and standard deviation of each channel; None for images and features.

    The target's samples take part, without labels: what the channels measure is known of both. At most
    20 000 evenly spaced samples of each domain are read.

    Args:
        task: the samples.
        by_domain: of the target alone, not over both domains.
    """
    if task.kind in ("image", "features"):
        return None
    parts = [task.target] if by_domain else [task.source_train.unlabelled, task.target]
    return _statistics(task.kind, *parts)


def source_to_target(task: DomainTask) -> Affine | None:
    """Return what gives the source's channels the target's means and deviations; None for images."""
    if task.kind in ("image", "features"):
        return None
    (mean_s, deviation_s), (mean_t, deviation_t) = (
        _statistics(task.kind, part) for part in (task.source_train.unlabelled, task.target)
    )
    factor = deviation_t / deviation_s
    shape = (-1, *[1] * (len(task.sample_shape) - 1))
    return Affine(factor.reshape(shape), (mean_t - factor * mean_s).reshape(shape))


def cumulative_shares(y: Labels, shares: Sequence[float]) -> NDArray[np.float64]:
    """Return cumulated chances of samples that are drawn so that their classes have given shares.

    Args:
        y: labels, int64 (N,), class indices in [0, C).
        shares: (C,), at least 0, of any sum. That of a class without samples goes to the others.

    Returns:
        float64 (N,), the last is 1.

    Raises:
        ValueError: no sample would ever be drawn.

    >>> cumulative_shares(np.array([0, 0, 1]), [0.5, 0.5]).tolist()
    [0.25, 0.5, 1.0]
    """
    chances = (np.asarray(shares, dtype=np.float64) / np.maximum(np.bincount(y, minlength=len(shares)), 1))[y]
    if not chances.sum() > 0:
        raise ValueError(f"no sample has a class that is to be drawn: {list(shares)}")
    cumulated: NDArray[np.float64] = (chances / chances.sum()).cumsum()
    cumulated /= cumulated[-1]
    return cumulated


class SampledStep(NamedTuple):
    """Which samples a step takes and how it mixes them.

    Attributes:
        source: indices of source samples, int64 (B,).
        target: indices of target samples, int64 (B,).
        coefficients: λ' between the domains, within the source and within the target, float32 (3, B).
        orders: with which sample each is mixed, within the source and within the target, int64 (2, B).
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    coefficients: Tensor
    orders: Tensor


class SampledAugmentations(NamedTuple):
    """What the augmentations of a step have sampled, on the device.

    Attributes:
        virtual: for K times the target's samples.
        source: for the source's samples; nothing where inputs are not augmented.
        target: for the target's.
    """

    virtual: Sampled
    source: Sampled
    target: Sampled


def sample_step(settings: TrainSettings, sources: int, targets: int, rng: np.random.Generator) -> SampledStep:
    """Draw a step's samples and mixtures.

    Args:
        settings: batch size B and α.
        sources: how many source samples there are.
        targets: how many target samples there are.
        rng: source of randomness.
    """
    size, alpha = settings.batch_size, settings.alpha
    source, target = (rng.integers(count, size=size) for count in (sources, targets))
    between = mixing_coefficients(alpha, size, rng)
    within_source, order_source = mixing_coefficients(alpha, size, rng), rng.permutation(size)
    within_target, order_target = mixing_coefficients(alpha, size, rng), rng.permutation(size)
    return SampledStep(
        source,
        target,
        torch.stack([between, within_source, within_target]),
        torch.from_numpy(np.stack([order_source, order_target])),
    )
