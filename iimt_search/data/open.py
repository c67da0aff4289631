"""Opens a domain by its spec: by name, from image files, from arrays, or from a Python function."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.arrays import (
    ArrayFile,
    array_white_level,
    image_side,
    kind_of,
    open_pair,
    stream_array,
    taken_for,
    value_range,
)
from iimt_search.data.image_files.open import open_image_files, training_files
from iimt_search.data.images import few_levels, shorter_side, to_square, watched
from iimt_search.data.labels import read_labels
from iimt_search.data.registry import DOMAINS, load_domain
from iimt_search.data.store import (
    DomainStream,
    Found,
    PartStream,
    array_fingerprint,
    cached,
    file_key,
    fingerprint_of,
)
from iimt_search.data.task import (
    SAMPLE_DIMENSIONS,
    SAMPLE_TYPES,
    Domain,
    Labelled,
    Labels,
    Note,
    Samples,
    Unlabelled,
    renumbered,
)
from iimt_search.errors import DataError, collecting
from iimt_search.kinds import Kind
from iimt_search.registry import call_own
from iimt_search.space.task_spec import DomainSpec

FOLDER_SIZE = 32
AUGMENTATION_OF: dict[Kind, str] = {"image": "image", "series": "series", "vector": "noise"}


def natural_size(spec: DomainSpec) -> int:
    """Return the side that a domain's images naturally have, in pixels; 0 where it has no images."""
    if spec.named is not None:
        if spec.named not in DOMAINS:
            raise DataError(f"there is no domain {spec.named!r}; there are {', '.join(DOMAINS)}")
        return DOMAINS[spec.named].size
    if spec.folder is not None or spec.list is not None:
        return FOLDER_SIZE
    if spec.arrays is not None:
        x, _ = open_pair(Path(spec.arrays), None)
        return image_side(x, spec.channels) if (spec.kind or kind_of(x)) == "image" else 0
    domain = _python_domain(spec.python or "")
    return max(domain.train.x.shape[2:]) if domain.kind == "image" else 0


# Image files whose headers are read.
_LOOKED_AT = 50


def side_on_disk(domain: DomainSpec) -> float:
    """Return the side of a domain's images before they are resized, in pixels; 0 where it has none.

    Raises:
        DataError: they cannot be read.
    """
    if domain.folder is None and domain.list is None:
        return natural_size(domain)
    # The natural size of image files is a convention; what they hold is told by their headers.
    files = training_files(domain).files
    return median(map(shorter_side, files[:: max(1, len(files) // _LOOKED_AT)]))


def open_domain(spec: DomainSpec, image_size: int, interpolation: str = "bicubic") -> Domain:
    """Return the domain that ``spec`` says without any label, with square images of ``image_size`` pixels.

    Prepared at first use and kept; a changed file is prepared again. Its class names are told, not whose
    they are: whether a domain is somebody's target, this function cannot know.

    Raises:
        DataError: as :func:`open_with_labels`.
    """
    domain = open_with_labels(spec, image_size, interpolation)

    def samples(part: Labelled | Unlabelled) -> Unlabelled:
        return Unlabelled(part.x, part.index)

    test = None if domain.test is None else samples(domain.test)
    return replace(domain, train=samples(domain.train), test=test)


def open_with_labels(spec: DomainSpec, image_size: int, interpolation: str = "bicubic") -> Domain:
    """Return the domain that ``spec`` says with all the labels that it has.

    For sources, and for the sealed labels: ``assemble`` and ``sealed`` alone import it. ``interpolation`` is
    of image files; what is made here or comes as an array has its own.

    Raises:
        DataError: it cannot be made; says which file or value is wrong, and what would be right.
    """
    if spec.named is not None:
        return load_domain(spec.named, image_size, spec.count)
    if spec.folder is not None or spec.list is not None:
        return open_image_files(spec, image_size, interpolation)
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


def _array_white_level(spec: DomainSpec, parts: list[ArrayFile]) -> int | float | None:
    """Return the white level of a domain's images: one for all parts of integers, or of floats, as x is."""
    alike = [x for x in parts if (x.dtype.kind == "f") == (parts[0].dtype.kind == "f")]
    return array_white_level(alike, spec.white_level)


def _open_arrays(spec: DomainSpec, size: int) -> Domain:
    named = (spec.arrays, spec.labels, spec.test, spec.test_labels)
    key = file_key([Path(path) for path in named if path is not None])
    labelled = spec.labelled is not False
    x, y = open_pair(Path(spec.arrays or ""), Path(spec.labels) if spec.labels else None, labelled)
    kind = spec.kind or kind_of(x)
    augmentation = spec.augmentation or AUGMENTATION_OF[kind]
    options = f"-{kind}" if spec.kind else ""  # what is told depends on whether it was said
    options += "" if labelled else "-unlabelled"
    options += f"-{spec.channels}" if spec.channels else ""
    options += "" if spec.white_level is None else f"-white{spec.white_level:g}"

    def build() -> DomainStream:
        pairs = [(x, y)]
        if spec.test is not None:
            pairs.append(open_pair(Path(spec.test), Path(spec.test_labels) if spec.test_labels else None))
        wrong: list[str] = []
        seen: list[NDArray[Any]] = []
        labels: list[Labels | None] = [None for _ in pairs]
        classes, notes, level = None, list[Note](), None
        with collecting(wrong):
            labels, classes, notes = _shared_labels(pairs)
        if kind == "image":
            with collecting(wrong):
                level = _array_white_level(spec, [samples for samples, _ in pairs])
        parts: list[PartStream] = []
        for (samples, _), each in zip(pairs, labels, strict=True):
            with collecting(wrong):
                alike = (samples.dtype.kind == "f") == (x.dtype.kind == "f")
                part = stream_array(
                    samples, kind, size, each, channels=spec.channels, white_level=level if alike else None
                )
                parts.append(watched(part, seen) if kind == "image" else part)
        if wrong:
            raise DataError(*wrong)

        def found() -> Found:
            low, high = value_range(x)
            told = [taken_for(x, kind, spec.channels, spec.kind is not None, low, high), *notes]
            if kind == "image":
                told += few_levels(str(x), np.concatenate(seen), level)
            if level is not None and spec.white_level is None:
                message = f"{x}: values from {low:g} to {high:g}; {level:g} becomes white"
                told.append(Note("values", f"{message}, unless `white_level` says otherwise", warning=False))
            return Found(tuple(told), level)

        return DomainStream(parts[0], parts[1] if parts[1:] else None, classes, kind, augmentation, found)

    return cached(f"arrays-v2-{key}-{kind}-{size}px-{augmentation}{options}", build)


def _shared_labels(
    pairs: list[tuple[ArrayFile, ArrayFile | None]],
) -> tuple[list[Labels | None], tuple[str, ...] | None, list[Note]]:
    """Read the labels of the parts that have some, by one list of classes."""
    read = [None if y is None else read_labels(y, x.shape[0]) for x, y in pairs]
    # The training part's classes, then what only the test part has.
    classes = list(dict.fromkeys(name for labels in read if labels is not None for name in labels[1]))
    shared = [None if labels is None else renumbered(*labels[:2], classes) for labels in read]
    return (
        shared,
        tuple(classes) or None,
        [note for labels in read if labels is not None for note in labels[2]],
    )


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
    try:
        made = call_own(path)
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
    arrays = (made.train.x, *([made.train.y] if isinstance(made.train, Labelled) else []))
    digests = list(map(array_fingerprint, arrays))
    return replace(made, fingerprint=fingerprint_of(made.classes, digests), sample_fingerprint=digests[0])
