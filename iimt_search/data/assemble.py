"""Makes a domain task of two domains, and leaves the target's labels behind."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from iimt_search.data.registry import load_domain
from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.errors import DataError
from iimt_search.task_name import parse_task_name

_VAL_SHARE = 0.2


def _fingerprint(classes: tuple[str, ...], *arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256("\x1f".join(classes).encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def split_source(train: Labelled) -> tuple[Labelled, Labelled]:
    """Split a source's training part into (train, validation), stratified, the same every time."""
    fit, val = train_test_split(np.arange(len(train)), test_size=_VAL_SHARE, stratify=train.y, random_state=0)
    return train.subset(fit), train.subset(val)


def load_task(name: str, image_size: int) -> DomainTask:
    """Return the task ``source->target`` as training may see it.

    Args:
        name: two domains of :data:`iimt_search.data.registry.DOMAINS`.
        image_size: side of the images in pixels.

    Raises:
        ValueError: ``name`` is not of the form ``source->target``.
        DataError: a domain is unknown, or the two do not share their classes.
    """
    task_name = parse_task_name(name)
    source = load_domain(task_name.source, image_size)
    target = load_domain(task_name.target, image_size)
    if source.classes != target.classes:
        raise DataError(f"{name}: source classes {source.classes} are not target classes {target.classes}")
    fit, val = split_source(source.train)
    x = target.train.x
    return DomainTask(
        name=str(task_name),
        classes=source.classes,
        augmentation=target.augmentation,
        source_train=fit,
        source_val=val,
        target=Unlabelled(x),
        fingerprint=_fingerprint(source.classes, fit.x, fit.y, val.x, val.y, x),
    )
