"""Files that a reader finds whole, whenever it looks, JSON that any reader takes, where checkpoints lie."""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from iimt_search.plain_text import visible


def shown(path: str | bytes | Path) -> str:
    r"""Return a path as text that any output takes: a byte that is not UTF-8 becomes ``\xNN``.

    So does a character that would steer a terminal.
    """
    return visible(os.fsencode(path).decode("utf-8", "backslashreplace"))


def writable(path: Path) -> bool:
    """Return whether this process may write to a file, or make files in a folder."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


_HALF = re.compile(r".+\.[0-9a-f]{8}\.tmp")


def remove_half_files(folder: Path, names: str = "") -> None:
    """Delete what killed writes of :func:`atomic_write` have left.

    Args:
        folder: at any depth of it, and nobody is writing there.
        names: only beginnings of these files, right in the folder.
    """
    for path in list(folder.glob(f"{names}.*.tmp") if names else folder.rglob("*.tmp")):
        if _HALF.fullmatch(path.name):
            remove(path)


@contextmanager
def atomic_write(path: Path, *, locked: bool = False, ending: str = ".tmp") -> Iterator[Path]:
    """Replace a file or a folder in one step: a reader sees the old content or the new, never half.

    An error within the block leaves the old content, and nothing beside it.

    Args:
        path: what to replace; its folder exists.
        locked: the caller holds a lock on ``path``. The temporary name is then always the same,
            so that what a killed process left there goes with the next write.
        ending: of the temporary name, for a writer that goes by it.

    Yields:
        The temporary path, in the same folder, to write the file or make the folder at.
    """
    beside = path.with_name(f"{path.name}{'' if locked else f'.{os.urandom(4).hex()}'}{ending}")
    try:
        if locked:
            remove(beside)
        yield beside
        if beside.is_dir():
            remove(path)  # no system renames a folder over a full one
        os.replace(beside, path)
    finally:
        remove(beside)


def write_text(path: Path, text: str) -> None:
    """Replace a file's content with text, as :func:`atomic_write` does."""
    with atomic_write(path) as beside:
        beside.write_text(text, encoding="utf-8")


def json_text(content: Any, indent: int | None = None) -> str:
    r"""Return JSON that UTF-8 can hold; only where a path in it is not UTF-8 itself letters become escapes.

    Such a path has ``\udcNN`` in place of a byte, which :func:`os.fsencode` turns back.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent, allow_nan=False)
    return text


def strict_json(content: Any) -> Any:
    """Return JSON values with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(content, dict):
        return {key: strict_json(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [strict_json(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def kept_path(folder: Path, task_slug: str, step: int) -> Path:
    """Return the file of a kept checkpoint in its job's folder."""
    return folder / task_slug / f"{step}.safetensors"
