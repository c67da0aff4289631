"""Files that a reader finds whole, whenever it looks, and where kept checkpoints lie."""

import os
from pathlib import Path


def write_beside(path: Path, text: str) -> None:
    """Write text to a file in one step: a reader sees the old content or the new, never half."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def kept_path(folder: Path, task_slug: str, step: int) -> Path:
    """Return the file of a kept checkpoint in its job's folder."""
    return folder / task_slug / f"{step}.safetensors"
