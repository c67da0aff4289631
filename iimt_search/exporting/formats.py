"""An exported model's ``model.json``, and its formats beside safetensors. Importing this imports no torch."""

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from iimt_search.errors import ModelFileError, UsageError
from iimt_search.files import write_text
from iimt_search.kinds import Kind
from iimt_search.settings import TrainSettings, with_new_names

# An image is resized to the model's size, whatever that says.
_LONGEST_SIDE = 4096
_Shape = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=3)]


class _Architecture(BaseModel):
    network: str
    kind: Kind
    sample_shape: _Shape
    classes: int = Field(ge=1)
    width: int = Field(ge=0, le=65536)
    dropout: float = Field(ge=0, lt=1)


class _Preprocessing(BaseModel):
    kind: Kind
    sample_shape: _Shape
    white_level: int | float | None = Field(None, gt=0, allow_inf_nan=False)


class _Written(BaseModel):
    difference: float
    samples: dict[str, int]


class _Metadata(BaseModel):
    """What must be true of a ``model.json``, so that whoever reads it need not look again."""

    schema_version: int = Field(alias="schema")
    task: str
    architecture: _Architecture
    preprocessing: _Preprocessing
    others: list[Annotated[str, Field(pattern=r"^member-[1-9][0-9]{0,3}\.safetensors$")]]
    formats: dict[str, _Written] = {}
    classes: list[str]
    data_fingerprint: str
    hyperparameters: dict[str, Any]
    scores: dict[str, float | None]
    seed: int
    step: int
    samples: dict[str, int] = {}
    packages: dict[str, str]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.architecture.classes != len(self.classes):
            raise ValueError(f"{len(self.classes)} classes are named, there are {self.architecture.classes}")
        made, shape = self.architecture, self.preprocessing.sample_shape
        if (made.kind, made.sample_shape) != (self.preprocessing.kind, shape):
            raise ValueError("architecture and preprocessing have other samples")
        if made.kind == "image" and (len(shape) != 3 or max(shape[1:]) > _LONGEST_SIDE):
            raise ValueError(
                f"images have 3 dimensions and at most {_LONGEST_SIDE} pixels a side, got {shape}"
            )
        if len(set(self.others)) < len(self.others):
            raise ValueError("a member is named twice")
        if not FORMATS.keys() >= self.formats.keys():
            raise ValueError(f"there are no formats {', '.join(self.formats.keys() - FORMATS.keys())}")
        # A later version may have added some.
        named = with_new_names(self.hyperparameters)
        TrainSettings.model_validate({n: v for n, v in named.items() if n in TrainSettings.model_fields})
        return self


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the content of an exported model's ``model.json``.

    Raises:
        OSError: it is not there.
        ModelFileError: it is damaged.
    """
    path = folder / "model.json"
    try:
        metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _Metadata.model_validate(metadata)
        return metadata
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelFileError(f"{path} is damaged: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is no JSON: {error}") from error


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
