"""The image files of a folder: one folder for each class, or, for a target, without labels."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from iimt_search.data.image_files.files import ImageFiles
from iimt_search.data.images import SUFFIXES
from iimt_search.data.listing import LeftOut, listed, walk
from iimt_search.data.task import Note
from iimt_search.errors import DataError
from iimt_search.files import shown

_NAMES = 5
# A folder of this name is no class where it alone holds images.
_IMAGES = "images"


def class_name(text: str) -> str:
    """Return a class's name as text; accents in one form, as systems spell them in several."""
    return unicodedata.normalize("NFC", shown(text))


def image_folder(folder: Path, labelled: bool = True) -> ImageFiles:
    """Return the image files of a folder, at any depth, class after class.

    Args:
        folder: holds a folder for each class, or images; or nothing but one folder (or one that is called
            ``images``, the only one with an image) which holds the class folders.
        labelled: False: the folders within are no labels.

    Raises:
        DataError: no such folder, no image, images beside class folders, or what cannot be read, such as a
            dead link; says all of it.
    """
    if not os.path.isdir(folder):  # which raises nothing, whatever stands in the way
        if os.path.isfile(folder):
            raise DataError(
                f"{shown(folder)} is a file; `folder` names what holds images, `arrays` an array, `list` a "
                f"list of images"
            )
        raise DataError(f"there is no folder {shown(folder)}")
    left = LeftOut()
    members: dict[str, list[Path]] = {}
    empty: dict[str, str] = {}
    inner = folder
    if labelled:
        inner = _holding_classes(folder, left)
        files, folders = listed(inner, SUFFIXES, left)
        _add_classes(folders, members, empty, left)
    else:
        files = list(walk(folder, SUFFIXES, left))
    if left.wrong:
        raise DataError(*left.wrong.values())
    if not files and not members:
        there = f"; there are {left.by_ending()}" if left.endings else ""
        raise DataError(
            f"{shown(folder)} holds no image ({', '.join(sorted(SUFFIXES))}) and no class folder with one"
            f"{there}"
        )
    if files and members:
        raise DataError(
            f"{shown(inner)} holds images ({shown(files[0].name)}) beside class folders "
            f"({next(iter(members))}/); put them all flat, or all into class folders; where its "
            f"folders are no labels, say labelled: false"
        )
    notes = [Note("empty-class", told) for told in empty.values()]
    if members:
        notes += [*_inner(folder, inner), *_nested(inner, members)]
    return ImageFiles(
        shown(folder),
        [file for each in (files, *members.values()) for file in each],
        tuple(members) or None,
        np.repeat(np.arange(len(members)), [len(each) for each in members.values()]) if members else None,
        known=(*members, *empty),
        notes=(*notes, *left.notes(shown(folder))),
        labelling=os.fsdecode(inner) if inner != folder else "",
    )


def _holding_classes(folder: Path, left: LeftOut) -> Path:
    """Return the folder that class folders lie in: ``folder``, or what is the only one within, and so on."""
    inner, found, passed = folder, folder, LeftOut()
    seen: set[str] = set()
    while (real := os.path.realpath(inner)) not in seen:
        seen.add(real)
        files, folders = listed(inner, SUFFIXES, passed)
        if files or not folders:
            break
        if len(folders) > 1 or inner.name.lower() == _IMAGES:
            found = inner
        called = [path for path in folders if path.name.lower() == _IMAGES]
        others = [path for path in folders if path not in called]
        if len(folders) > 1 and (len(called) != 1 or any(_holds_image(path) for path in others)):
            break
        inner = (called or folders)[0]
    if found != folder:
        _pass_by(folder, found, left)
    return found


def _holds_image(folder: Path) -> bool:
    return next(walk(folder, SUFFIXES, LeftOut()), None) is not None


def _pass_by(folder: Path, inner: Path, left: LeftOut) -> None:
    """Count what lies between ``folder`` and the folder within that holds the class folders."""
    for depth in range(len(folder.parts), len(inner.parts)):
        _, folders = listed(Path(*inner.parts[:depth]), SUFFIXES, left)
        for path in folders:
            if path.name != inner.parts[depth]:
                list(walk(path, SUFFIXES, left))


def _add_classes(
    folders: list[Path], members: dict[str, list[Path]], empty: dict[str, str], left: LeftOut
) -> None:
    """Add each class folder's files to ``members``, or what is there instead to ``empty``."""
    for path in folders:
        within = LeftOut()
        if files := list(walk(path, SUFFIXES, within)):
            members.setdefault(class_name(path.name), []).extend(files)
        else:
            there = f"; there are {within.by_ending()}" if within.endings else ""
            empty[class_name(path.name)] = f"class folder {shown(path)} holds no image{there}"
        left.add(within)


def _inner(folder: Path, inner: Path) -> Iterator[Note]:
    if inner != folder:
        within = shown(inner.relative_to(folder))
        yield Note("nested", f"{shown(folder)}: the classes are the folders in {within}/", warning=False)


def _nested(folder: Path, members: dict[str, list[Path]]) -> Iterator[Note]:
    """Tell of images that lie deeper than right in their class folder, and of likely deeper classes."""
    depth = len(folder.parts) + 2
    paths = [path for files in members.values() for path in files]
    deeper = sum(len(path.parts) > depth for path in paths)
    if not deeper:
        return
    names = [
        {path.parts[depth - 1] if len(path.parts) > depth else "" for path in files}
        for files in members.values()
    ]
    where, among = shown(folder), ", ".join(sorted(map(shown, names[0]))[:_NAMES])
    if len(names[0]) > 1 and "" not in names[0] and all(each == names[0] for each in names):
        yield Note(
            "nested",
            f"{where}: its {len(members)} class folders hold folders of the same names ({among}); if "
            f"those are the classes, name the folder that they are in",
        )
    yield Note(
        "nested",
        f"{where}: {deeper} of {len(paths)} images lie deeper than right in a class folder; each "
        f"belongs to the class folder that it is in",
        warning=False,
    )
