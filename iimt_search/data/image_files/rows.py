"""Reads the text file that lists images: a path and, where there are labels, a label on each line."""

import codecs
import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from iimt_search.data.images import SUFFIXES
from iimt_search.data.task import Note
from iimt_search.errors import DataError
from iimt_search.files import shown

# Between path and label, the rarest in paths first; "" where there are paths alone.
_SEPARATORS = ("\t", ";", ",", " ", "")
_LOOKED_AT = 1000
_PATH_COLUMNS = {"path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path"}
_LABEL_COLUMNS = {"label", "labels", "class", "class_name", "category", "target", "y"}


class Row(NamedTuple):
    """What a line of a list says.

    Attributes:
        line: its number, from 1.
        path: of an image, as it is written.
        label: as it is written; None where the list has none.
    """

    line: int
    path: str
    label: str | None


def lines_of(path: Path) -> dict[int, str]:
    """Return the lines of a text file by their numbers from 1, without blank ones and ``#`` comments.

    UTF-8, or UTF-16 with its mark; bytes that are neither stay those of the paths that they stand in.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        data = path.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16") if wide else data.decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError as error:
        raise DataError(f"there is no file {shown(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.reason
        raise DataError(f"{shown(path)} cannot be read: {reason}") from error
    if "\0" in text:
        raise DataError(f"{shown(path)} is no text: it holds a zero byte")
    numbered = enumerate(map(str.strip, re.split(r"\r\n|\r|\n", text)), 1)
    return {number: line for number, line in numbered if line and not line.startswith("#")}


def _split(line: str, separator: str) -> list[str]:
    """Return the fields of a line, without quotes and spaces around them.

    Raises:
        csv.Error: a quote that does not end, or ends within a field.
    """
    if separator.strip() or separator == "\t":
        (row,) = csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True)
        return [field.strip() for field in row]
    fields = line.rsplit(None, 1) if separator else [line]
    return [f[1:-1].replace('""', '"') if len(f) > 1 and f[0] == f[-1] == '"' else f for f in fields]


def is_image(text: str) -> bool:
    """Return whether a text ends as the names of images do."""
    return os.path.splitext(text)[1].lower() in SUFFIXES


def _fits(line: str, separator: str) -> bool:
    """Return whether a line, split so, has an image's name where a path would be."""
    try:
        fields = _split(line, separator)
    except csv.Error:
        return False
    if len(fields) == 1:
        return not separator and is_image(line.strip('"'))
    return any(map(is_image, fields if len(fields) > 2 else fields[:1]))


def _separator(lines: Sequence[str]) -> str:
    """Return what separates the fields of most lines, as far as they are looked at."""
    scores = {each: sum(_fits(line, each) for line in lines[:_LOOKED_AT]) for each in _SEPARATORS}
    if any(scores.values()):
        return max(_SEPARATORS, key=scores.__getitem__)
    # No path ends as images do.
    return next(each for each in _SEPARATORS if each in lines[-1])


def _columns(where: str, rows: Sequence[Sequence[str]]) -> tuple[int, int | None, bool]:
    """Return which column has the paths and which the labels, and whether the first line tells their names.

    Raises:
        DataError: there are several columns, and nothing says which of them are meant.
    """
    first, others = rows[0], rows[1:]
    names = [field.lower() for field in first]
    path = next((at for at, name in enumerate(names) if name in _PATH_COLUMNS), None)
    label = next((at for at, name in enumerate(names) if name in _LABEL_COLUMNS), None)
    if path is not None and (label is not None or len(names) == 1):
        return path, label, True
    if len(names) > 2:
        raise DataError(
            f"{where}: {len(names)} columns; a list has a path and a label, or a first line that calls "
            f"two of them `path` and `label`"
        )
    # What is not called as usual is told by the paths below it.
    images = sum(is_image(row[0]) for row in others)
    header = not is_image(first[0]) and 2 * images > len(others) and not first[-1].lstrip("-").isdigit()
    return 0, len(names) - 1 or None, header


def read_rows(path: Path) -> tuple[list[Row], list[Note]]:
    """Read a list: paths, or on each line a path and a label, separated by space, tab, comma or semicolon.

    By spaces the last word is the label; with the other separators a field may stand in ``"quotes"``. The
    first line may name the columns.

    Returns:
        A row for each image, in order; what is to be told of the list.

    Raises:
        DataError: it cannot be read, names no image, or its lines do not have as many columns.
    """
    where, lines = shown(path), lines_of(path)
    separator = _separator(list(lines.values())) if lines else ""
    fields: dict[int, list[str]] = {}
    wrong = []
    for number, line in lines.items():
        try:
            fields[number] = _split(line, separator)
        except csv.Error as error:
            wrong.append(f"{where}:{number}: {error}")
    counts = Counter(map(len, fields.values()))
    usual = max(counts, key=counts.__getitem__, default=1)
    for number, found in fields.items():
        if len(found) != usual:
            told = "1 column" if len(found) == 1 else f"{len(found)} columns"
            wrong.append(f"{where}:{number}: {told}, where most lines have {usual}")
    if wrong:
        raise DataError(*wrong)
    notes = []
    at_path, at_label, header = _columns(where, list(fields.values())) if fields else (0, None, False)
    if header:
        number = next(iter(fields))
        told = fields.pop(number)[at_path]
        notes.append(Note("header", f"{where}:{number}: taken for the columns' names: {told} …", False))
    if not fields:
        raise DataError(f"{where} names no image")
    rows = [Row(n, row[at_path], None if at_label is None else row[at_label]) for n, row in fields.items()]
    return rows, notes
