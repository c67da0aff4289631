"""Reads the labels of array files: numbers or texts in whatever form they were saved."""

import io
import math
import pickle
import re
from functools import partial
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from iimt_search.data.arrays import ArrayFile
from iimt_search.data.task import Labels, Note
from iimt_search.errors import DataError
from iimt_search.plain_text import visible

# A pickled label has no more bytes than this.
_LABEL_BYTES = 4096
_PICKLE_BYTES = 1 << 30
_ONE_HOT_CLASSES = 100_000
_MISSING = "is missing (where y holds no labels, say labelled: false)"
_SCALAR = re.compile(r"[<>|=]?([fiub][1248]|U\d{1,4})")


class _Array:
    """Stands for an array in a pickle; keeps its items."""

    def __init__(self, *_: Any) -> None:
        self.items: Any = None

    def __setstate__(self, state: Any) -> None:
        self.items = state[4]


class _Type:
    """Stands for a dtype in a pickle; keeps how it is written."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, ""

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def _scalar(kind: _Type, data: Any) -> Any:
    code = f"{kind.order}{kind.code}"
    if not _SCALAR.fullmatch(code) or not isinstance(data, bytes):
        raise pickle.UnpicklingError(f"a value of type {code[:20]!r}")
    return np.frombuffer(data, code)[0].item()


def _encoded(text: str, _: str) -> bytes:
    return text.encode("latin-1")


class _Unpickler(pickle._Unpickler):
    """Python's, not C's: one byte of a pickle makes that reserve gigabytes.

    Reads a pickled array of texts and numbers; a pickle may name the stand-ins above and nothing else.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in."""
        if module.startswith("numpy"):
            found: Any = {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Type, "scalar": _scalar}.get(
                name
            )
        else:
            found = {("_codecs", "encode"): _encoded}.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(f"an object of {module}.{name}")
        # Of each its own: a pickle may set attributes of what it names.
        return type(name, (found,), {}) if isinstance(found, type) else partial(found)


def _objects(y: ArrayFile) -> NDArray[Any]:
    """Return labels that were saved as Python objects, as numbers or texts."""
    count = math.prod(y.shape)
    data = y.raw(min((count + 16) * _LABEL_BYTES, _PICKLE_BYTES))
    try:
        found = _Unpickler(io.BytesIO(data)).load()
        items = found.items
        if len(items) != count:
            raise ValueError(f"{len(items)} of {count} labels")
    except Exception as error:  # a damaged or hostile pickle raises anything
        raise DataError(
            f"{y} holds Python objects that are not read: {error}; save it as numbers or texts"
        ) from error
    for at, item in enumerate(items):
        if item is None:
            raise DataError(f"{y}: label at {at} {_MISSING}")
        if type(item) not in (str, bytes, int, float, bool):
            raise DataError(
                f"{y}: label at {at} is of type {type(item).__name__}; labels are numbers or texts"
            )
    try:
        if all(type(item) in (int, float) for item in items):
            return np.array(items, dtype=np.float64 if float in map(type, items) else np.int64).reshape(
                y.shape
            )
        texts = [
            item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else str(item)
            for item in items
        ]
    except (ValueError, OverflowError) as error:
        raise DataError(f"{y}: {error}; labels are whole numbers or texts") from error
    return np.array(texts).reshape(y.shape)


def _one_column(y: ArrayFile, values: NDArray[Any], count: int) -> NDArray[Any]:
    """Return labels (N,) from (N,), (N, 1) or one-hot rows (N, C)."""
    if values.size == count and max(values.shape) == count:
        return values.reshape(count)
    if values.ndim == 2 and len(values) == count and values.dtype.kind in "iufb":
        ones = values == 1
        if (ones.sum(axis=1) == 1).all() and ((values == 0) | ones).all():
            return np.asarray(ones.argmax(axis=1))
    return _refuse_shape(y, count)


def _refuse_shape(y: ArrayFile, count: int) -> NoReturn:
    raise DataError(
        f"{y} has shape {y.shape}, but there are {count} samples: labels are ({count},), or one-hot rows"
    )


def _whole(y: ArrayFile, values: NDArray[Any]) -> NDArray[Any]:
    """Return float labels as the whole numbers that they are."""
    for wrong, what in (
        (~np.isfinite(values), _MISSING),
        (values != np.floor(values), "is no whole number"),
    ):
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise DataError(f"{y}: label {values[at]:g} at {at} {what}; labels are whole numbers or texts")
    return values.astype(np.int64)


def read_labels(y: ArrayFile, count: int) -> tuple[Labels, tuple[str, ...], list[Note]]:
    """Read labels: (N,), (N, 1) or one-hot, whole numbers of any type or texts, as Python objects, too.

    Args:
        y: the array.
        count: number N of samples.

    Returns:
        Class indices int64 (N,); class names, numbers in the order of numbers; what is to be told of them.

    Raises:
        DataError: wrong shape, type or length, or a label that is missing.
    """
    if count not in (y.shape[0], math.prod(y.shape)) or math.prod(y.shape[1:]) > _ONE_HOT_CLASSES:
        _refuse_shape(y, count)
    values = _one_column(y, _objects(y) if y.dtype.hasobject else y.load(), count)
    if values.dtype.kind == "f":
        values = _whole(y, values)
    if values.dtype.kind not in "iuUSb":
        raise DataError(f"{y} has type {values.dtype}; labels are whole numbers or texts")
    names, index = np.unique(values, return_inverse=True)
    notes = []
    if values.dtype.kind == "i" and names[0] < 0:
        told = f"{y}: label {names[0]} is taken for a class like any other, not for a missing label"
        notes.append(Note("labels", told, warning=len(names) != 2))
    texts = tuple(
        visible(name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name))
        for name in names.tolist()
    )
    return index.reshape(-1).astype(np.int64), texts, notes
