"""The image files that a list names, with the labels that stand beside them."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iimt_search.data.image_files.files import ImageFiles
from iimt_search.data.image_files.folder import class_name
from iimt_search.data.image_files.rows import Row, is_image, lines_of, read_rows
from iimt_search.data.task import Note
from iimt_search.errors import DataError, collecting
from iimt_search.files import shown

# As lists and tables have them: 7, -1, 7.0. A text such as 007 is a name.
_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?")
_INDEX_FIRST = re.compile(r"(?P<index>-?\d+)[\s,;:]+(?P<name>.+)")
_INDEX_LAST = re.compile(r"(?P<name>.+?)[\s,;:]+(?P<index>-?\d+)")


def read_names(path: Path) -> dict[int, str]:
    """Return index → class name: of a file with one name a line, counted from 0, or with both on each line.

    Raises:
        DataError: it cannot be read, is empty, or a name stands twice.
    """
    lines = lines_of(path)
    if not lines:
        raise DataError(f"{shown(path)} holds no name")
    for form in (_INDEX_FIRST, _INDEX_LAST):
        found = [form.fullmatch(line) for line in lines.values()]
        pairs = {int(match["index"]): match["name"] for match in found if match}
        if len(pairs) == len(set(pairs.values())) == len(lines):
            break
    else:
        pairs = dict(enumerate(lines.values()))
    names = {index: class_name(name.strip('"')) for index, name in sorted(pairs.items())}
    first: dict[str, int] = {}
    for number, name in zip(lines, (class_name(text.strip('"')) for text in pairs.values()), strict=True):
        if first.setdefault(name, number) != number:
            raise DataError(
                f"{shown(path)}:{number}: the name {name} stands twice, first on line {first[name]}"
            )
    return names


def _files(where: str, rows: Sequence[Row], root: Path) -> list[Path]:
    """Return the image file of each row.

    Raises:
        DataError: some are not there.
    """
    files, missing = [], []
    for row in rows:
        path = root / row.path
        if not os.path.isfile(path) and "\\" in row.path:
            path = root / row.path.replace("\\", "/")
        if not os.path.isfile(path):
            reason = "is no file" if os.path.exists(path) else "is not there"
            if any(map(is_image, row.path.split()[:-1])):
                reason += "; where a label has spaces, separate it by a comma or a tab"
            missing.append(f"{where}:{row.line}: {shown(path)} {reason}")
        files.append(path)
    if missing and len(missing) == len(rows):
        more = f", nor is any other of its {len(rows)} images" if len(rows) > 1 else ""
        raise DataError(f"{missing[0]}{more}; `root` names the folder that paths are seen from")
    if missing:
        raise DataError(*missing)
    return files


def _labels(where: str, rows: Sequence[Row], names: dict[int, str] | None, told: str) -> tuple[str, ...]:
    """Return the class of each row.

    Raises:
        DataError: a label is missing, or not among the names; says where.
    """
    texts = [row.label or "" for row in rows]
    whole = [_WHOLE.fullmatch(text) for text in texts]
    if names is None:
        if all(whole):
            return tuple(match[1] for match in whole if match)
        found = list(map(class_name, texts))
    else:
        known = set(names.values())
        found = []
        for text, match in zip(texts, whole, strict=True):
            name = class_name(text)
            found.append(name if name in known else names.get(int(match[1]), "") if match else "")
    wrong = []
    for row, name in zip(rows, found, strict=True):
        if not row.label:
            wrong.append(f"{where}:{row.line}: {shown(row.path)} has no label")
        elif not name:
            have = f"the {len(names or ())} names of {told}, {min(names or [0])} to {max(names or [0])}"
            wrong.append(f"{where}:{row.line}: label {shown(row.label)} is none of {have}")
    if wrong:
        raise DataError(*wrong)
    return tuple(found)


def _order(name: str) -> tuple[int, int, str]:
    match = _WHOLE.fullmatch(name)
    return (0, int(match[1]), "") if match else (1, 0, name)


def _twice(where: str, rows: Sequence[Row], files: Sequence[Path], labels: Sequence[str]) -> list[str]:
    """Return what to say of images that stand in the list with two labels."""
    first: dict[Path, int] = {}
    wrong = []
    for at, path in enumerate(files):
        before = first.setdefault(path, at)
        if labels[before] != labels[at]:
            wrong.append(
                f"{where}:{rows[at].line}: {shown(path)} is {labels[at]} here and {labels[before]} on line "
                f"{rows[before].line}"
            )
    return wrong


def image_list(
    path: Path, root: Path | None = None, names: Path | None = None, labelled: bool = True
) -> ImageFiles:
    """Return the image files that a list names, in its order.

    Classes are in the order of numbers, of the names' file, or of the alphabet. A number without a name is
    its own.

    Args:
        path: the list, as :func:`~iimt_search.data.image_files.rows.read_rows` takes it.
        root: folder that its paths are seen from; by default its own.
        names: file with the names of numbers, as :func:`read_names` takes it.
        labelled: False: a label in it is left alone.

    Raises:
        DataError: a file that is not there, a label that is missing or not among the names, and so on; says
            all of it, each with its line.
    """
    where, wrong = shown(path), list[str]()
    rows, notes = read_rows(path)
    files, labels, by_index = list[Path](), tuple[str, ...](), None
    with collecting(wrong):
        files = _files(where, rows, root or path.parent)
    if not labelled or rows[0].label is None:
        if wrong:
            raise DataError(*wrong)
        return ImageFiles(where, files, notes=tuple(notes))
    with collecting(wrong):
        by_index = None if names is None else read_names(names)
        labels = _labels(where, rows, by_index, shown(names or ""))
    if not wrong:
        wrong = _twice(where, rows, files, labels)
    if wrong:
        raise DataError(*wrong)
    known = tuple(by_index.values()) if by_index else tuple(sorted(set(labels), key=_order))
    classes = tuple(name for name in known if name in set(labels))
    if unused := len(known) - len(classes):
        told = f"{shown(names or '')}: {unused} of {len(known)} names have no image in {where}"
        notes.append(Note("labels", told, warning=False))
    at = {name: index for index, name in enumerate(classes)}
    y = np.array([at[name] for name in labels], dtype=np.int64)
    labelling = "\x1f".join([*classes, hashlib.sha256(y.tobytes()).hexdigest()])
    return ImageFiles(where, files, classes, y, known, tuple(notes), labelling)
