"""Files that a reader finds whole, whenever it looks."""

import os
from pathlib import Path


def write_beside(path: Path, text: str) -> None:
    """Write text to a file in one step: a reader sees the old content or the new, never half."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
