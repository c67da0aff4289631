"""A domain from a folder of images: one folder for each class, or, for a target, without labels."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from iimt_search.data.images import SUFFIXES, read_image
from iimt_search.data.listing import LeftOut, listed, walk
from iimt_search.data.store import PartStream
from iimt_search.data.task import Labels, Note, Samples
from iimt_search.errors import DataError, collecting
from iimt_search.files import shown

_CHUNK = 256
_NAMES = 5


def _class_name(folder: Path) -> str:
    """Return a class folder's name as text; accents in one form, as systems spell them in several."""
    return unicodedata.normalize("NFC", shown(folder.name))


class ImageFolder:
    """The image files of a folder, at any depth.

    Attributes:
        files: paths, class after class.
        classes: names of the class folders with an image, in order; None where there are no labels.
        y: index into ``classes`` for each file, int64 (N,), or None.
        empty: class folder without an image → what is in it.
        notes: what is to be told of the files.

    Args:
        folder: holds a folder for each class, or images.
        labelled: False: the folders within are no labels.

    Raises:
        DataError: no such folder, no image, images beside class folders, or what cannot be read, such as a
            dead link; says all of it.
    """

    def __init__(self, folder: Path, labelled: bool = True) -> None:
        if not os.path.isdir(folder):  # which raises nothing, whatever stands in the way
            if os.path.isfile(folder):
                raise DataError(
                    f"{shown(folder)} is a file; `folder` names what holds images, `arrays` an array"
                )
            raise DataError(f"there is no folder {shown(folder)}")
        self._folder, self._left = folder, LeftOut()
        self.empty: dict[str, str] = {}
        self.notes: list[Note] = []
        self.classes: tuple[str, ...] | None = None
        self.y: Labels | None = None
        if labelled:
            self._find_classes()
        else:
            self.files = list(walk(folder, SUFFIXES, self._left))
        if self._left.wrong:
            raise DataError(*self._left.wrong.values())
        if not self.files:
            there = f"; there are {self._left.by_ending()}" if self._left.endings else ""
            raise DataError(
                f"{shown(folder)} holds no image ({', '.join(sorted(SUFFIXES))}) and no class folder with one"
                f"{there}"
            )
        self.notes += self._left.notes(shown(folder))

    def _find_classes(self) -> None:
        self.files, folders = listed(self._folder, SUFFIXES, self._left)
        members: dict[str, list[Path]] = {}
        for path in folders:
            left = LeftOut()
            if files := list(walk(path, SUFFIXES, left)):
                members.setdefault(_class_name(path), []).extend(files)
            else:
                there = f"; there are {left.by_ending()}" if left.endings else ""
                self.empty[_class_name(path)] = f"class folder {shown(path)} holds no image{there}"
            self._left.add(left)
        if self.files and members:
            raise DataError(
                f"{shown(self._folder)} holds images ({shown(self.files[0].name)}) beside class folders "
                f"({next(iter(members))}/); put them all flat, or all into class folders; where its "
                f"folders are no labels, say labelled: false"
            )
        if members:
            self.classes = tuple(members)
            self.files = [file for files in members.values() for file in files]
            self.y = np.repeat(np.arange(len(members)), [len(files) for files in members.values()])
            self.notes += self._nested(members)

    def _nested(self, members: dict[str, list[Path]]) -> Iterator[Note]:
        """Tell of images that lie deeper than right in their class folder, and of likely deeper classes."""
        depth = len(self._folder.parts) + 2
        deeper = sum(len(path.parts) > depth for path in self.files)
        if not deeper:
            return
        names = [
            {path.parts[depth - 1] if len(path.parts) > depth else "" for path in files}
            for files in members.values()
        ]
        where, among = shown(self._folder), ", ".join(sorted(map(shown, names[0]))[:_NAMES])
        if len(names[0]) > 1 and "" not in names[0] and all(each == names[0] for each in names):
            yield Note(
                "nested",
                f"{where}: its {len(members)} class folders hold folders of the same names ({among}); if "
                f"those are the classes, name the folder that they are in",
            )
        yield Note(
            "nested",
            f"{where}: {deeper} of {len(self.files)} images lie deeper than right in a class folder; each "
            f"belongs to the class folder that it is in",
            warning=False,
        )

    def stream(self, size: int, white_level: float | None, broken: list[str]) -> PartStream:
        """Return the images, uint8 (3, size, size) each, read as they are asked for.

        Args:
            size: side in pixels.
            white_level: as :func:`~iimt_search.data.images.read_image`.
            broken: is told of each file that cannot be read; a black image takes its place.
        """

        def read(path: Path) -> Samples:
            with collecting(broken):
                return read_image(path, size, white_level)
            return np.zeros((3, size, size), np.uint8)

        def chunks() -> Iterator[Samples]:
            for start in range(0, len(self.files), _CHUNK):
                yield np.stack([read(path) for path in self.files[start : start + _CHUNK]])

        return PartStream(len(self.files), (3, size, size), chunks, self.y)
