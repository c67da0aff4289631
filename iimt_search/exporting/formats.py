"""An exported model's ``model.json``, and its formats beside safetensors. Importing this imports no torch."""

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from iimt_search.errors import UsageError
from iimt_search.files import write_text


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the content of an exported model's ``model.json``."""
    metadata: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return metadata


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write an exported model's ``model.json``."""
    write_text(folder / "model.json", json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")


class Format(NamedTuple):
    """A format for programs that do not have this package.

    Attributes:
        file: its name in the model's folder.
        packages: what writing and checking need beyond this package's own requirements.
        extra: the extra of this package that brings them, or "".
        title: for people.
    """

    file: str
    packages: tuple[str, ...]
    extra: str
    title: str


# What every exported folder has; what the others are checked against.
SAFETENSORS = "safetensors"

FORMATS: dict[str, Format] = {
    "torch-export": Format("model.pt2", (), "", "PyTorch's torch.export, without this package"),
    "onnx": Format("model.onnx", ("onnx", "onnxscript", "onnxruntime"), "onnx", "ONNX, without PyTorch"),
}


def check_formats(names: Iterable[str]) -> None:
    """Check that formats can be written here.

    Args:
        names: in :data:`FORMATS`, or ``safetensors``.

    Raises:
        UsageError: there is no such format, or a package is missing; says how to install it.
    """
    for name in names:
        if name == SAFETENSORS:
            continue
        if name not in FORMATS:
            raise UsageError(f"there is no format {name!r}; valid: {', '.join([SAFETENSORS, *FORMATS])}")
        missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
        if missing:
            raise UsageError(
                f"format {name} needs {', '.join(missing)}: pip install 'iimt-search[{FORMATS[name].extra}]'"
            )
