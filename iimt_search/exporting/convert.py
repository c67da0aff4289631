"""Writes an exported model in further formats, and checks that each computes the same."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iimt_search.errors import ModelFileError
from iimt_search.exporting.formats import FORMATS, SAFETENSORS, check_formats, write_metadata
from iimt_search.exporting.load import Predictor, load_model
from iimt_search.files import atomic_write


def write_torch_export(model: nn.Module, example: Tensor, about: str, path: Path) -> None:
    """Write a model whose batch size is free to ``path``; ``about`` is the extra file ``model.json`` in it.

    Args:
        model: in evaluation mode, on the processor.
        example: samples (B, ...), B of at least 2.
        about: what is known of the model, as JSON.
        path: ends in ``.pt2``.
    """
    with torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path, extra_files={"model.json": about})


def read_torch_export(path: Path) -> Callable[[Tensor], Tensor]:
    """Return what the archive computes: samples (B, ...) → logits (B, C)."""
    module: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return module


INPUT, OUTPUT = "samples", "logits"


def write_onnx(model: nn.Module, example: Tensor, about: str, path: Path) -> None:
    """Write a model like :func:`write_torch_export`; ``about`` is the file's property ``model.json``."""
    with torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # only without dynamo, with a file to write to
    program.model.metadata_props["model.json"] = about
    program.save(path, external_data=False)


def read_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Return what ONNX Runtime computes of the file: samples (B, ...) → logits (B, C)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def logits(samples: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: samples.numpy()})[0])

    return logits


# Format → how it is written and how it is read back.
WRITE_AND_READ = {"torch-export": (write_torch_export, read_torch_export), "onnx": (write_onnx, read_onnx)}

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
        for batch in filter(len, samples.tensor_split((1, 3))):
            expected, logits = reference(batch), other(batch)
            if expected.shape != logits.shape or not logits.isfinite().all():
                return float("inf"), False
            greatest = max(greatest, float((logits - expected).abs().max()))
            largest = max(largest, float(expected.abs().max()))
    return greatest, greatest <= TOLERANCE * largest


def write_formats(folder: Path, names: Iterable[str], real: Tensor | None = None) -> dict[str, float]:
    """Write an exported model in further formats beside its safetensors.

    Each is read back and compared with the safetensors model on random samples, and on real ones where
    there are some. What differs is deleted. ``model.json`` then tells of the others.

    Args:
        folder: an exported model.
        names: formats in :data:`iimt_search.exporting.formats.FORMATS`; ``safetensors`` is there already.
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
    reference = load_model(folder, run_python=True)  # of a study of ours
    # Random samples are far from what the network knows; real ones are what counts.
    parts = [random_samples(reference, _RANDOM)] + ([] if real is None else [real])
    about = {key: value for key, value in reference.metadata.items() if key != "formats"}
    formats: dict[str, Any] = dict(reference.metadata.get("formats", {}))
    differences = {}
    for name in wanted:
        differences[name] = _write(folder, name, reference, json.dumps(about, ensure_ascii=False), parts)
        formats[name] = {
            "file": FORMATS[name].file,
            "difference": differences[name],
            "samples": {"random": len(parts[0]), "real": 0 if real is None else len(real)},
        }
    write_metadata(folder, {**reference.metadata, "formats": formats})
    return differences


def _write(folder: Path, name: str, reference: Predictor, about: str, parts: list[Tensor]) -> float:
    """Write one format, beside and renamed once it has been checked; returns the greatest difference."""
    path, (write, read) = folder / FORMATS[name].file, WRITE_AND_READ[name]
    # Channels-last weights are a matter of speed here, and no format keeps them.
    model = load_model(folder, run_python=True).to(memory_format=torch.contiguous_format)
    with atomic_write(path, ending=path.suffix) as beside:
        write(model, random_samples(model, 2), about, beside)
        other = read(beside)
        compared = [greatest_difference(reference, other, part) for part in parts]
        greatest = max(difference for difference, _ in compared)
        if not all(within for _, within in compared):
            raise ModelFileError(
                f"{path}: its logits differ from those of model.safetensors by {greatest:.2g}, more than "
                f"{TOLERANCE:g}; it is not written"
            )
    return greatest
