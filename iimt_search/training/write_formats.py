"""Writes an exported model in further formats, and checks that each computes the same."""

import json
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iimt_search.errors import ModelFileError
from iimt_search.files import write_beside
from iimt_search.training.formats import FORMATS, SAFETENSORS, check_formats
from iimt_search.training.load import Predictor, load_model

# Of the logits, for logits up to 1; above, relative to the largest.
TOLERANCE = 1e-4
_RANDOM = 64


def random_samples(model: Predictor, count: int, seed: int = 0) -> Tensor:
    """Return random samples (count, ...) of the shape, type and scale that a model was trained with."""
    generator = torch.Generator().manual_seed(seed)
    if model.kind == "image":
        return torch.randint(0, 256, (count, *model.sample_shape), dtype=torch.uint8, generator=generator)
    noise = torch.randn((count, *model.sample_shape), generator=generator)
    return noise * model.model.scale + model.model.shift


def greatest_difference(
    reference: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], samples: Tensor
) -> tuple[float, bool]:
    """Compare two models on samples (N, ...), in batches of several sizes.

    Returns:
        The greatest absolute difference of the logits, and whether it is within :data:`TOLERANCE`.
    """
    greatest, largest = 0.0, 1.0
    with torch.no_grad():
        # One sample alone is what tracing could treat in another way.
        for batch in samples.tensor_split((1, 3)):
            if not len(batch):
                continue
            expected, found = reference(batch), other(batch)
            if expected.shape != found.shape or not found.isfinite().all():
                return float("inf"), False
            greatest = max(greatest, float((found - expected).abs().max()))
            largest = max(largest, float(expected.abs().max()))
    return greatest, greatest <= TOLERANCE * largest


def write_formats(folder: Path, names: Iterable[str], real: Tensor | None = None) -> dict[str, float]:
    """Write an exported model in further formats beside its safetensors.

    Each is read back and compared with the safetensors model on random samples, and on real ones where
    there are some. What differs is deleted. ``model.json`` then tells of the others.

    Args:
        folder: an exported model.
        names: formats in :data:`iimt_search.training.formats.FORMATS`; ``safetensors`` is there already.
        real: samples (N, ...) of the model's own shape and type.

    Returns:
        Format → greatest difference of the logits.

    Raises:
        UsageError: there is no such format, or a package that it needs is missing.
        ModelFileError: a format's logits differ from those of the safetensors model.
    """
    wanted = [name for name in dict.fromkeys(names) if name != SAFETENSORS]
    check_formats(wanted)
    if not wanted:
        return {}
    reference = load_model(folder)
    # Random samples are far from what the network knows; real ones are what counts.
    parts = [random_samples(reference, _RANDOM)] + ([] if real is None else [real])
    metadata = {key: value for key, value in reference.metadata.items() if key != "formats"}
    formats: dict[str, Any] = dict(reference.metadata.get("formats", {}))
    differences = {}
    for name in wanted:
        differences[name] = _write(folder, name, reference, metadata, parts)
        formats[name] = {
            "file": FORMATS[name].file,
            "difference": differences[name],
            "samples": {"random": len(parts[0]), "real": 0 if real is None else len(real)},
        }
    content = {**reference.metadata, "formats": formats}
    write_beside(folder / "model.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return differences


def _write(
    folder: Path, name: str, reference: Predictor, metadata: dict[str, Any], parts: list[Tensor]
) -> float:
    """Write one format, beside and renamed once it has been checked; returns the greatest difference."""
    path, module = folder / FORMATS[name].file, import_module(FORMATS[name].module)
    beside = path.with_stem(f"{path.stem}-{os.getpid()}-unchecked")
    # Channels-last weights are a matter of speed here, and no format keeps them.
    model = load_model(folder).to(memory_format=torch.contiguous_format)
    try:
        module.write(model, random_samples(model, 2), metadata, beside)
        other = module.read(beside)
        found = [greatest_difference(reference, other, part) for part in parts]
        greatest = max(difference for difference, _ in found)
        if not all(within for _, within in found):
            raise ModelFileError(
                f"{path}: its logits differ from those of model.safetensors by {greatest:.2g}, more than "
                f"{TOLERANCE:g}; it is not written"
            )
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return greatest
