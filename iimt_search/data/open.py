"""Opens a domain by its spec: by name, from folders, from arrays, or from a Python function."""

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from iimt_search.data.arrays import ArrayFile, image_side, kind_of, open_pair, read_labels, stream_array
from iimt_search.data.folder import ImageFolder
from iimt_search.data.images import to_square
from iimt_search.data.registry import DOMAINS, load_domain
from iimt_search.data.store import DomainStream, array_hash, cached, fingerprint_of
from iimt_search.data.task import (
    SAMPLE_DIMENSIONS,
    SAMPLE_TYPES,
    Domain,
    Labelled,
    Labels,
    Samples,
    Unlabelled,
    renumbered,
)
from iimt_search.errors import DataError
from iimt_search.kinds import Kind
from iimt_search.registry import load_object
from iimt_search.space.task_spec import DomainSpec

FOLDER_SIZE = 32
AUGMENTATION_OF: dict[Kind, str] = {"image": "image", "series": "series", "vector": "noise"}


def natural_size(spec: DomainSpec) -> int:
    """Return the side that a domain's images naturally have, in pixels; 0 where it has no images."""
    if spec.named is not None:
        if spec.named not in DOMAINS:
            raise DataError(f"there is no domain {spec.named!r}; there are {', '.join(DOMAINS)}")
        return DOMAINS[spec.named].size
    if spec.folder is not None:
        return FOLDER_SIZE
    if spec.arrays is not None:
        x, _ = open_pair(Path(spec.arrays), None)
        return image_side(x) if (spec.kind or kind_of(x)) == "image" else 0
    domain = _python_domain(spec.python or "")
    return max(domain.train.x.shape[2:]) if domain.kind == "image" else 0


def open_domain(spec: DomainSpec, image_size: int) -> Domain:
    """Return the domain that ``spec`` says, with square images of ``image_size`` pixels.

    Prepared at first use and kept; a changed file is prepared again.

    Raises:
        DataError: it cannot be made; says which file or value is wrong, and what would be right.
    """
    if spec.named is not None:
        return load_domain(spec.named, image_size, spec.count)
    if spec.folder is not None:
        return _open_folder(spec, image_size)
    if spec.arrays is not None:
        return _open_arrays(spec, image_size)
    return _resized(_python_domain(spec.python or ""), image_size)


def _with_samples(domain: Domain, samples: Callable[[Unlabelled], Samples]) -> Domain:
    """Return a domain with other samples, made of those of each part, and the labels that it has."""

    def part(old: Labelled | Unlabelled) -> Labelled | Unlabelled:
        if isinstance(old, Labelled):
            return Labelled(samples(old.unlabelled), old.y)
        return Unlabelled(samples(old))

    return replace(domain, train=part(domain.train), test=None if domain.test is None else part(domain.test))


def _resized(domain: Domain, size: int) -> Domain:
    """Return a domain of images with its images at ``size``; any other as it is."""
    if domain.kind != "image" or domain.train.x.shape[2:] == (size, size):
        return domain

    def squares(part: Unlabelled) -> Samples:
        return np.stack([to_square(Image.fromarray(image.transpose(1, 2, 0)), size) for image in part.x])

    return _with_samples(domain, squares)


def _open_folder(spec: DomainSpec, size: int) -> Domain:
    folders = [ImageFolder(Path(path)) for path in (spec.folder, spec.test) if path is not None]
    classes = [folder.classes for folder in folders if folder.classes is not None]
    if any(names != classes[0] for names in classes):
        raise DataError(
            f"{spec.folder}: its training and test folders have other classes: {classes[0]} and {classes[1]}"
        )
    augmentation = spec.augmentation or "image"
    keys = "-".join(_file_key(folder.files) for folder in folders)

    def build() -> DomainStream:
        train, *test = (folder.stream(size) for folder in folders)
        names = classes[0] if classes else None
        return DomainStream(train, test[0] if test else None, names, "image", augmentation)

    return cached(f"folder-{keys}-{size}px-{augmentation}", build)


def _file_key(paths: list[Path]) -> str:
    """Return a hash that changes when a file is added, removed or changed."""
    digest = hashlib.sha256()
    for path in paths:
        if not path.exists():
            raise DataError(f"there is no file {path}")
        stat = path.stat()
        digest.update(f"{path}\x1f{stat.st_size}\x1f{stat.st_mtime_ns}\x1e".encode())
    return digest.hexdigest()[:16]


def _open_arrays(spec: DomainSpec, size: int) -> Domain:
    named = (spec.arrays, spec.labels, spec.test, spec.test_labels)
    key = _file_key([Path(path) for path in named if path is not None])
    x, y = open_pair(Path(spec.arrays or ""), Path(spec.labels) if spec.labels else None)
    kind = spec.kind or kind_of(x)
    augmentation = spec.augmentation or AUGMENTATION_OF[kind]

    def build() -> DomainStream:
        pairs = [(x, y)]
        if spec.test is not None:
            pairs.append(open_pair(Path(spec.test), Path(spec.test_labels) if spec.test_labels else None))
        labels, classes = _shared_labels(pairs)
        train, *test = (
            stream_array(samples, kind, size, y) for (samples, _), y in zip(pairs, labels, strict=True)
        )
        return DomainStream(train, test[0] if test else None, classes, kind, augmentation)

    return cached(f"arrays-{key}-{kind}-{size}px-{augmentation}", build)


def _shared_labels(
    pairs: list[tuple[ArrayFile, ArrayFile | None]],
) -> tuple[list[Labels | None], tuple[str, ...] | None]:
    """Read the labels of the parts that have some, by one list of classes."""
    read = [None if y is None else read_labels(y, x.shape[0]) for x, y in pairs]
    # The training part's classes, then what only the test part has.
    classes = list(dict.fromkeys(name for labels in read if labels is not None for name in labels[1]))
    shared = [None if labels is None else renumbered(*labels, classes) for labels in read]
    return shared, tuple(classes) or None


def _check_part(where: str, domain: Domain, part: Labelled | Unlabelled) -> None:
    x = part.x
    if x.dtype != SAMPLE_TYPES[domain.kind] or x.ndim != SAMPLE_DIMENSIONS[domain.kind] + 1:
        wanted = np.dtype(SAMPLE_TYPES[domain.kind])
        raise DataError(
            f"{where}: a domain of kind {domain.kind} has samples of {SAMPLE_DIMENSIONS[domain.kind]} "
            f"dimensions of {wanted}, got {x.ndim - 1} of {x.dtype}"
        )
    if domain.kind == "image" and x.shape[1] != 3:
        raise DataError(f"{where}: images have 3 channels, got {x.shape[1]}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise DataError(f"{where}: sample {int(np.argwhere(~np.isfinite(x))[0][0])} holds NaN or infinity")
    if isinstance(part, Labelled):
        classes = domain.classes or ()
        wrong = np.flatnonzero((part.y < 0) | (part.y >= len(classes)))
        if len(wrong):
            at = int(wrong[0])
            raise DataError(f"{where}: label {part.y[at]} at {at} is out of range for {len(classes)} classes")


@cache
def _python_domain(path: str) -> Domain:
    """Call a user's function and check what it returns."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = load_object(path)()
    except (ImportError, AttributeError) as error:
        raise DataError(f"python: {path} cannot be found: {error}") from error
    if not isinstance(made, Domain):
        raise DataError(
            f"python: {path} must return an iimt_search.data.task.Domain, got {type(made).__name__}"
        )
    made = _with_samples(made, Unlabelled.gather)  # every row is meant
    for name, part in (("train", made.train), ("test", made.test)):
        if part is not None:
            _check_part(f"python: {path} ({name})", made, part)
    digests = []
    for array in (made.train.x, *([made.train.y] if isinstance(made.train, Labelled) else [])):
        digest = array_hash(array.dtype, array.shape)
        digest.update(np.ascontiguousarray(array).data)
        digests.append(digest.hexdigest())
    return replace(made, fingerprint=fingerprint_of(made.classes, digests), sample_fingerprint=digests[0])
