"""A file of what a model of any framework predicts: an ``.npz`` or a ``.safetensors``, read without trust."""

import difflib
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from iimt_search.data.arrays import ArrayFile, open_samples
from iimt_search.errors import DataError
from iimt_search.files import shown
from iimt_search.validators.contract import FewShot, Mixed, Predictions

ENDINGS = (".npz", ".safetensors")
# Of one array: 4 GiB as float32.
MOST_VALUES = 1 << 30
# Probabilities of a sample may sum to 1 within so much: some save them as float16.
_ROUNDING = 1e-2
# What log(0) is taken for.
_LEAST = 1e-30


class Array(NamedTuple):
    """What a file may hold under one name.

    Attributes:
        field: the field of :class:`Predictions`, or ``group.part`` of one.
        shape: its lengths by name: N target samples, S source validation samples, C classes, D dimensions,
            M mixtures, F labelled target samples. One name is one length within a file.
    """

    field: str
    shape: str


ARRAYS = {
    "target_logits": Array("target_logits", "NC"),
    "target_probabilities": Array("target_logits", "NC"),
    "target_embeddings": Array("target_embeddings", "ND"),
    "source_val_logits": Array("source_logits", "SC"),
    "source_val_probabilities": Array("source_logits", "SC"),
    "source_val_labels": Array("source_labels", "S"),
    "source_val_embeddings": Array("source_embeddings", "SD"),
    "source_shares": Array("source_shares", "C"),
    "classifier_weight": Array("classifier_weight", "CD"),
    "mixed_logits": Array("mixed.logits", "MC"),
    "mixed_labels": Array("mixed.labels", "M"),
    "mixed_same": Array("mixed.same", "M"),
    "few_shot_logits": Array("few_shot.logits", "FC"),
    "few_shot_labels": Array("few_shot.labels", "F"),
    "reverse_logits": Array("reverse_logits", "SC"),
    "short_reverse_logits": Array("short_reverse_logits", "SC"),
}
_GROUPS: dict[str, Any] = {"mixed": Mixed, "few_shot": FewShot}


def arrays_of(field: str) -> str:
    """Return the arrays that make a field of the predictions, for people."""
    names = [name for name, array in ARRAYS.items() if array.field.split(".")[0] == field]
    return (" and " if field in _GROUPS else " or ").join(names)


class _Found(NamedTuple):
    """An array in a file, not read yet."""

    shape: tuple[int, ...]
    load: Callable[[], Tensor]


def _of_npz(path: Path) -> dict[str, _Found]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(f"{shown(path)} is no whole .npz file: {error}") from error

    def loaded(array: ArrayFile) -> Tensor:
        if array.dtype.kind not in "iufb":
            raise DataError(f"{array} has type {array.dtype}, which is no number")
        kind = "float32" if array.dtype.kind == "f" else "int64"
        return torch.from_numpy(array.load().astype(kind))

    opened = {name: open_samples(path, name) for name in names if name in ARRAYS}
    found = {name: _Found(array.shape, partial(loaded, array)) for name, array in opened.items()}
    return found | {name: _Found((), lambda: torch.empty(0)) for name in names if name not in ARRAYS}


def _of_safetensors(path: Path) -> dict[str, _Found]:
    def loaded(name: str) -> Tensor:
        with safe_open(path, framework="pt") as content:
            value: Tensor = content.get_tensor(name)
        return value.float() if value.is_floating_point() else value.long()

    try:
        with safe_open(path, framework="pt") as content:
            return {
                name: _Found(tuple(content.get_slice(name).get_shape()), partial(loaded, name))
                for name in content.keys()
            }
    except (OSError, SafetensorError) as error:
        raise DataError(f"{shown(path)} is no whole .safetensors file: {error}") from error


def _check_shapes(path: Path, found: Mapping[str, _Found]) -> None:
    """Check names and shapes, before anything is read."""
    lengths: dict[str, tuple[int, str]] = {}
    for name, array in found.items():
        if name not in ARRAYS:
            near = difflib.get_close_matches(name, ARRAYS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise DataError(f"{shown(path)}: {name!r} is not known; {hint}known: {', '.join(ARRAYS)}")
        wanted = ARRAYS[name].shape
        if len(array.shape) != len(wanted) or 0 in array.shape:
            raise DataError(f"{shown(path)}: {name} has shape {array.shape}; ({', '.join(wanted)}) is right")
        if math.prod(array.shape) > MOST_VALUES:
            raise DataError(f"{shown(path)}: {name} has shape {array.shape}: more than {MOST_VALUES} values")
        for letter, length in zip(wanted, array.shape, strict=True):
            known, first = lengths.setdefault(letter, (length, name))
            if length != known:
                raise DataError(
                    f"{shown(path)}: {name} has shape {array.shape}, {first} {found[first].shape}: "
                    f"{letter} of ({', '.join(wanted)}) is not the same"
                )


def class_indices(values: Tensor, classes: int, where: str) -> Tensor:
    """Return labels as class indices int64 (N,).

    Raises:
        DataError: one is no whole number in [0, C).
    """
    wrong = (values != values.round()) | (values < 0) | (values >= classes)
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise DataError(
            f"{where}: label {values[at].item():g} at {at}; labels are class indices from 0 to {classes - 1}"
        )
    return values.long()


def _logits(path: Path, name: str, values: Tensor) -> Tensor:
    """Return logits, of probabilities their logarithm."""
    if not name.endswith("_probabilities"):
        return values.float()
    p = values.double()
    rows = p[p.isfinite().all(dim=-1)]
    wrong = (rows < 0).any(dim=-1) | ((rows.sum(dim=-1) - 1).abs() > _ROUNDING)
    if wrong.any():
        row = rows[int(wrong.nonzero()[0])]
        raise DataError(
            f"{shown(path)}: {name} has a row that sums to {row.sum().item():.4g}, its least is "
            f"{row.min().item():.4g}; probabilities are at least 0 and sum to 1 (save logits as "
            f"{name.replace('probabilities', 'logits')})"
        )
    return torch.where(p.isnan(), p, p.clamp_min(_LEAST).log()).float()


def _values(path: Path, found: Mapping[str, _Found]) -> Iterator[tuple[str, Tensor]]:
    """Yield the field and the values of each array."""
    classes = next(found[n].shape[1] for n in ("target_logits", "target_probabilities") if n in found)
    for name, array in found.items():
        values = array.load()
        if name.endswith("_labels"):
            values = class_indices(values, classes, f"{shown(path)}: {name}")
        elif name == "mixed_same":
            values = values.bool()
        elif name == "source_shares":
            values = values.float()
            if not (values.isfinite().all() and values.min() >= 0 and values.sum() > 0):
                raise DataError(f"{shown(path)}: {name} must be finite, at least 0 and not all 0")
        else:
            values = _logits(path, name, values)
        yield ARRAYS[name].field, values


def read_predictions(path: Path) -> Predictions:
    """Return what a model's file holds; what it does not hold has no samples, or is None.

    Raises:
        DataError: the file is missing or damaged, holds what is not known, Python objects or too much, has no
            target logits, or shapes that contradict each other; says which array.
    """
    if not path.is_file():
        raise DataError(f"there is no file {shown(path)}")
    found = _of_npz(path) if path.suffix.lower() == ".npz" else _of_safetensors(path)
    _check_shapes(path, found)
    for one in ("target", "source_val"):
        both = {f"{one}_logits", f"{one}_probabilities"} & set(found)
        if len(both) == 2:
            raise DataError(f"{shown(path)} holds {one}_logits and {one}_probabilities: one of them is right")
        if one == "target" and not both:
            held = ", ".join(found) or "nothing"
            raise DataError(
                f"{shown(path)} needs target_logits or target_probabilities (N, C); it holds {held}"
            )
    none = torch.zeros(0, 0)
    content: dict[str, Any] = {
        **dict.fromkeys(
            ("source_logits", "source_embeddings", "target_embeddings", "classifier_weight"), none
        ),
        "source_labels": torch.zeros(0, dtype=torch.int64),
    }
    groups: dict[str, dict[str, Tensor]] = {}
    for field, values in _values(path, found):
        group, _, part = field.partition(".")
        if part:
            groups.setdefault(group, {})[part] = values
        else:
            content[field] = values
    for group, parts in groups.items():
        if len(parts) < len(_GROUPS[group].__dataclass_fields__):
            raise DataError(f"{shown(path)}: {arrays_of(group)} go together")
        content[group] = _GROUPS[group](**parts)
    return Predictions(**content)
