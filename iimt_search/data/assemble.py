"""Makes a domain task of its domains, and leaves the target's labels behind."""

import hashlib
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from iimt_search.data.open import natural_size, open_domain
from iimt_search.data.task import Domain, DomainTask, Labelled, Unlabelled, renumbered
from iimt_search.errors import DataError
from iimt_search.kinds import AUGMENTATIONS, ENCODERS
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec

_VAL_SHARE = 0.2
_SPLIT_VERSION = 1


def task_image_size(spec: TaskSpec, image_size: int) -> int:
    """Return the side of a task's images: what was asked for, or for 0 the largest natural one."""
    return image_size or max(natural_size(domain) for domain in (*spec.source, spec.target))


def _stratified(y: NDArray[np.int64], share: float, seed: int, what: str) -> tuple[NDArray[np.int64], ...]:
    """Split indices in two, the second with ``share`` of every class."""
    counts = np.bincount(y)
    if (counts[counts > 0] < 2).any():
        label = int(np.flatnonzero(counts == 1)[0])
        raise DataError(f"{what}: class {label} has one sample; every class needs at least 2 to be split")
    present = len(counts[counts > 0])  # each part has at least one sample of every class
    count = min(max(round(len(y) * share), present), len(y) - present)
    first, second = train_test_split(np.arange(len(y)), test_size=count, stratify=y, random_state=seed)
    return np.sort(first), np.sort(second)


def split_source(train: Labelled, what: str = "source") -> tuple[Labelled, Labelled]:
    """Split a source's training part into (train, validation), stratified, the same every time."""
    fit, val = _stratified(train.y, _VAL_SHARE, 0, what)
    return train.subset(fit), train.subset(val)


def _labelled(domain: Domain, what: str) -> Labelled:
    if not isinstance(domain.train, Labelled) or domain.classes is None:
        raise DataError(f"{what} has no labels; a source needs class folders, or y beside x")
    present = len(np.unique(domain.train.y))
    if present < 2:
        raise DataError(f"{what} has {present} class, there is nothing to tell apart")
    return domain.train


def _merge(domains: list[Domain], what: str) -> tuple[Labelled, tuple[str, ...]]:
    """Put several sources together; their classes are put together by name."""
    parts = [_labelled(domain, what) for domain in domains]
    classes = list(dict.fromkeys(name for domain in domains for name in domain.classes or ()))
    if len(domains) == 1:
        return parts[0], tuple(classes)
    names = [domain.classes or () for domain in domains]
    y = np.concatenate([renumbered(part.y, own, classes) for part, own in zip(parts, names, strict=True)])
    x = np.concatenate([part.unlabelled.gather() for part in parts])
    return Labelled(x, y), tuple(classes)


def _check_fit(spec: TaskSpec, sources: list[Domain], target: Domain, what: str = "source") -> None:
    for domain in sources:
        if domain.kind != target.kind:
            raise DataError(f"{spec.name}: {what} is of kind {domain.kind}, target of kind {target.kind}")
        if domain.train.x.shape[1:] != target.train.x.shape[1:]:
            ours, theirs = domain.train.x.shape[1:], target.train.x.shape[1:]
            raise DataError(f"{spec.name}: {what} samples are {ours}, target samples {theirs}")


def _check_classes(spec: TaskSpec, domain: Domain, classes: tuple[str, ...], what: str) -> None:
    unknown = [name for name in domain.classes or () if name not in classes]
    if unknown:
        raise DataError(
            f"{spec.name}: {what} classes {', '.join(unknown)} are not among the source's "
            f"({', '.join(classes)}); the class sets must match by name"
        )


def _open_few_shot(spec: TaskSpec, size: int, target: Domain, classes: tuple[str, ...]) -> Domain | None:
    """Return the few labelled target samples, their labels in the source's order of classes."""
    if spec.few_shot is None:
        return None
    domain = open_domain(spec.few_shot, size)
    labelled = domain.train
    if not isinstance(labelled, Labelled) or domain.classes is None:
        raise DataError(f"{spec.name}: few_shot has no labels; it needs class folders, or y beside x")
    _check_fit(spec, [domain], target, "few_shot")
    _check_classes(spec, domain, classes, "few_shot's")
    y = renumbered(labelled.y, domain.classes, classes)
    return replace(domain, train=Labelled(labelled.x, y, labelled.index))


@lru_cache(maxsize=8)
def load_task(spec: TaskSpec, image_size: int = 0, data_fraction: float = 1.0) -> DomainTask:
    """Return a task as training may see it.

    Args:
        spec: its domains.
        image_size: side of the images in pixels; 0 for what is natural.
        data_fraction: share of the source and target samples to use, in (0, 1]; the same ones every time.

    Raises:
        DataError: a domain cannot be made, or source and target do not fit.
    """
    size = task_image_size(spec, image_size)
    sources = [open_domain(domain, size) for domain in spec.source]
    target = open_domain(spec.target, size)
    _check_fit(spec, sources, target)
    train, classes = _merge(sources, f"{spec.name}: the source")
    _check_classes(spec, target, classes, "the target's")
    few_shot = _open_few_shot(spec, size, target, classes)
    unlabelled = Unlabelled(target.train.x)
    if data_fraction < 1:
        train = train.subset(_stratified(train.y, data_fraction, 1, f"{spec.name}: the source")[1])
        count = max(2, round(len(unlabelled) * data_fraction))
        chosen = np.random.default_rng(2).permutation(len(unlabelled))[:count]
        unlabelled = unlabelled.subset(np.sort(chosen))
    fit, val = split_source(train, f"{spec.name}: the source")
    # The target's samples alone: its labels change nothing that training sees.
    parts = [*(domain.fingerprint for domain in sources), target.sample_fingerprint]
    parts += [*classes, repr(data_fraction), str(_SPLIT_VERSION)]
    parts += [] if few_shot is None else [few_shot.fingerprint]
    return DomainTask(
        name=spec.name,
        classes=classes,
        kind=target.kind,
        augmentation=spec.target.augmentation or target.augmentation,
        source_train=fit,
        source_val=val,
        target=unlabelled,
        fingerprint=hashlib.sha256("\x1f".join(parts).encode()).hexdigest(),
        few_shot=few_shot.train if few_shot is not None and isinstance(few_shot.train, Labelled) else None,
    )


def check_trainable(task: DomainTask, settings: TrainSettings) -> None:
    """Check that a task can be trained with these settings.

    Raises:
        DataError: a domain has fewer samples than a batch, or the network or augmentation is for
            another kind.
    """
    taken = AUGMENTATIONS[task.augmentation].kinds
    if task.kind not in taken:
        raise DataError(
            f"{task.name}: augmentation {task.augmentation} is for {' and '.join(taken)}, these samples "
            f"are of kind {task.kind}"
        )
    batch_size = settings.batch_size
    kind = task.kind if settings.network == "auto" else ENCODERS[settings.network].kind
    if kind != task.kind:
        fitting = [name for name, entry in ENCODERS.items() if entry.kind == task.kind]
        raise DataError(
            f"{task.name}: network {settings.network} takes samples of kind {kind}, these are of kind "
            f"{task.kind}; set train.network to auto, {', '.join(fitting)}"
        )
    for what, part in (("source", task.source_train), ("target", task.target)):
        if len(part) < batch_size:
            raise DataError(
                f"{task.name}: {what} has {len(part)} training samples, fewer than a batch of {batch_size}; "
                f"set train.batch_size lower"
            )
