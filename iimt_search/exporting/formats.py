"""The formats that an exported model can have beside safetensors. Importing this file imports no torch."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import NamedTuple

from iimt_search.errors import UsageError


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
    "torch-export": Format(
        "model.pt2",
        (),
        "",
        "PyTorch's torch.export, without this package",
    ),
    "onnx": Format(
        "model.onnx",
        ("onnx", "onnxscript", "onnxruntime"),
        "onnx",
        "ONNX, without PyTorch",
    ),
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
