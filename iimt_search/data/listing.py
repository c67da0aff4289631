"""Finds the files of a kind in a folder at any depth, and keeps account of everything else."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from iimt_search.data.task import Note
from iimt_search.files import shown

# What systems, network storages and unpackers leave in folders, in lower case.
_JUNK = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
        *("system volume information", "network trash folder", "temporary items"),
        *("__macosx", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)
# What lies beside images for good reasons.
_HARMLESS = frozenset(
    {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".log", ".db"}
)
_SHOWN = 10
_SPECIAL = "is neither a file nor a folder"


@dataclass
class LeftOut:
    """What a walk through a folder has passed by.

    Attributes:
        endings: ending in lower case → files; "" for those without.
        junk: name → times, of what systems leave behind.
        hidden: files and folders whose name begins with a dot.
        wrong: path → why it cannot be read: dead links, folders without permission.
    """

    endings: Counter[str] = field(default_factory=Counter)
    junk: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    wrong: dict[Path, str] = field(default_factory=dict)

    def add(self, other: "LeftOut") -> None:
        """Count what another walk has passed by, too."""
        self.endings += other.endings
        self.junk += other.junk
        self.hidden += other.hidden
        self.wrong |= other.wrong

    def by_ending(self) -> str:
        """Return such as ``12 .heic, 1 without ending``; the most frequent first."""
        ranked = sorted(self.endings.items(), key=lambda each: (-each[1], each[0]))
        told = [f"{count} {ending or 'without ending'}" for ending, count in ranked[:_SHOWN]]
        more = sum(count for _, count in ranked[_SHOWN:])
        return ", ".join(told) + (f" and {more} more" if more else "")

    def notes(self, where: str, what: str = "images") -> Iterator[Note]:
        """Tell what was passed by in the folder ``where``, in which ``what`` were looked for."""
        if self.endings:
            message = f"{where}: skipped files that are no {what} of a type that is read: {self.by_ending()}"
            yield Note("skipped", message, warning=not self.endings.keys() <= _HARMLESS)
        if self.junk:
            names = ", ".join(f"{name} ({count})" for name, count in sorted(self.junk.items()))
            yield Note("skipped", f"{where}: skipped what systems leave behind: {names}", warning=False)
        if self.hidden:
            yield Note("skipped", f"{where}: skipped hidden files and folders: {self.hidden}", warning=False)


def _kind(entry: "os.DirEntry[str]") -> str:
    """Return ``folder``, ``file``, or why the entry is neither."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        if entry.is_symlink() and not os.path.exists(entry.path):
            return f"is a link to {shown(os.readlink(entry.path))}, which is not there"
        return _SPECIAL
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def listed(folder: Path, suffixes: frozenset[str], left: LeftOut) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders right in a folder, each in the order of names.

    Args:
        folder: to look in.
        suffixes: endings of the files that are meant, in lower case, with the dot.
        left: is told what else is there.
    """
    files: list[Path] = []
    folders: list[Path] = []
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        left.wrong[folder] = f"{shown(folder)} cannot be read: {error.strerror}"
        return files, folders
    for entry in entries:
        path, suffix = folder / entry.name, Path(entry.name).suffix.lower()
        if entry.name.lower() in _JUNK:
            left.junk[shown(entry.name)] += 1
        elif entry.name.startswith("."):
            left.hidden += 1
        elif (kind := _kind(entry)) == "folder" and suffix in suffixes:
            left.wrong[path] = f"{shown(path)} is a folder that is called like a file; rename it"
        elif kind == "folder":
            folders.append(path)
        elif kind != "file" and (kind != _SPECIAL or suffix in suffixes):
            left.wrong[path] = f"{shown(path)} {kind}"
        elif suffix in suffixes:
            files.append(path)
        else:
            left.endings[shown(suffix)] += 1
    return files, folders


def walk(
    folder: Path, suffixes: frozenset[str], left: LeftOut, within: tuple[tuple[int, int], ...] = ()
) -> Iterator[Path]:
    """Give the files of a folder, then those of each folder in it, in the order of names; links are followed.

    Args:
        folder: to begin in.
        suffixes: endings of the files that are meant, in lower case, with the dot.
        left: is told what is passed by.
        within: device and number of the folders that ``folder`` is in.
    """
    try:
        stat = folder.stat()
    except OSError as error:
        left.wrong[folder] = f"{shown(folder)} cannot be read: {error.strerror}"
        return
    here = (stat.st_dev, stat.st_ino)
    if here in within:
        left.wrong[folder] = f"{shown(folder)} is a link to a folder that it is in, a loop"
        return
    files, folders = listed(folder, suffixes, left)
    yield from files
    for each in folders:
        yield from walk(each, suffixes, left, (*within, here))
