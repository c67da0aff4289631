"""Opens a domain of image files, whether a folder or a list names them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iimt_search.data.image_files.files import ImageFiles
from iimt_search.data.image_files.folder import image_folder
from iimt_search.data.image_files.image_list import image_list
from iimt_search.data.images import deep_values, few_levels, watched, white_level_of
from iimt_search.data.store import DomainStream, Found, PartStream, cached, file_key
from iimt_search.data.task import Domain, Note, renumbered
from iimt_search.errors import DataError, collecting
from iimt_search.files import shown
from iimt_search.space.task_spec import DomainSpec


def _found(spec: DomainSpec, path: str, labelled: bool) -> ImageFiles:
    if spec.folder is not None:
        return image_folder(Path(path), labelled)
    root, names = (None if each is None else Path(each) for each in (spec.root, spec.names))
    return image_list(Path(path), root, names, labelled)


def training_files(spec: DomainSpec) -> ImageFiles:
    """Return the image files that a domain's training part is of.

    Raises:
        DataError: they cannot be found; says all that is wrong.
    """
    return _found(spec, spec.folder or spec.list or "", spec.labelled is not False)


def _parts(spec: DomainSpec) -> list[ImageFiles]:
    """Return the files of the training part and, where there is one, of the test part."""
    wrong: list[str] = []
    parts: list[ImageFiles] = []
    with collecting(wrong):
        parts.append(training_files(spec))
    if spec.test is not None:
        with collecting(wrong):
            parts.append(_found(spec, spec.test, True))
    if wrong:
        raise DataError(*wrong)
    return parts


def _check_parts(spec: DomainSpec, train: ImageFiles, test: ImageFiles) -> None:
    """Check that training cannot see the test samples, and that both parts have the same classes."""
    folder = None if spec.folder is None else Path(spec.folder).resolve()
    if folder is not None and folder in Path(spec.test or "").resolve().parents:
        raise DataError(
            f"{test.where} is within {train.where}: training would see the test samples; put it beside"
        )
    if folder is None and (both := set(train.files).intersection(test.files)):
        raise DataError(
            f"{test.where} and {train.where} have {len(both)} images in common, such as "
            f"{shown(min(both))}: training would see the test samples"
        )
    more = [name for name in test.classes or () if name not in train.known]
    if more and train.classes is not None:
        what = "folder" if folder is not None else "list"
        raise DataError(
            f"{train.where}: its training and test {what}s have other classes; the test {what} alone has "
            f"{', '.join(more)}"
        )


def _white_level(given: float | None, where: str, files: list[Path]) -> tuple[int | float | None, list[Note]]:
    """Return the white level of a domain's images, one for all its files, and what is to be told of it."""
    deep = deep_values(files)
    if deep is None:
        # Of 8 bits: what is white is a matter of course, unless another value is said to be.
        return (round(given) if given is not None and 1 <= given < 255 else None), []
    count, low, high, floats = deep
    try:
        level = given or white_level_of(low, high, floats)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    message = (
        f"{where}: {count} of {len(files)} images have more than 8 bits, values from "
        f"{low:g} to {high:g}; {level:g} becomes white"
        + ("" if given else ", unless `white_level` says otherwise")
    )
    return (float(level) if floats else max(1, round(level))), [Note("values", message, warning=False)]


def open_image_files(spec: DomainSpec, size: int) -> Domain:
    """Return the domain of a folder or a list, with square images of ``size`` pixels.

    Raises:
        DataError: it cannot be made; says all that is wrong, over all its files.
    """
    parts = _parts(spec)
    for test in parts[1:]:
        _check_parts(spec, parts[0], test)
    classes = tuple(dict.fromkeys(name for part in parts for name in part.classes or ())) or None
    augmentation = spec.augmentation or "image"
    keys = "-".join(file_key(part.files, part.labelling) for part in parts)
    options = "" if spec.labelled is not False else "-unlabelled"
    options += "" if spec.white_level is None else f"-white{spec.white_level:g}"

    def build() -> DomainStream:
        broken: list[str] = []
        seen: list[NDArray[Any]] = []
        level, notes, where = None, list[Note](), parts[0].where
        with collecting(broken):
            level, notes = _white_level(
                spec.white_level, where, [path for part in parts for path in part.files]
            )

        def stream(part: ImageFiles) -> PartStream:
            y = None if part.y is None else renumbered(part.y, part.classes or (), classes or ())
            return watched(replace(part.stream(size, level, broken), y=y), seen)

        def found() -> Found:
            if broken:
                raise DataError(*broken)
            return Found((*notes, *few_levels(where, np.concatenate(seen), level)), level)

        train, *test = map(stream, parts)
        return DomainStream(train, test[0] if test else None, classes, "image", augmentation, found)

    way = "folder-v2" if spec.list is None else "list-v1"
    domain = cached(f"{way}-{keys}-{size}px-{augmentation}{options}", build)
    # Of the test part an empty class is no error.
    told = [note for part in parts[1:] for note in part.notes if note.kind != "empty-class"]
    return replace(domain, notes=(*parts[0].notes, *told, *domain.notes))
