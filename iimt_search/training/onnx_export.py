"""The format ``onnx``: one file with its weights, for ONNX Runtime and whatever else reads ONNX."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

INPUT, OUTPUT = "samples", "logits"


def write(model: nn.Module, example: Tensor, metadata: Mapping[str, Any], path: Path) -> None:
    """Write a model to ``path``; ``metadata`` is its property ``model.json``.

    Args:
        model: in evaluation mode, on the processor.
        example: samples (B, ...), B of at least 2.
        metadata: what is known of the model, as JSON values.
        path: the file.
    """
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
    program.model.metadata_props["model.json"] = json.dumps(dict(metadata), ensure_ascii=False)
    program.save(path, external_data=False)


def read(path: Path) -> Callable[[Tensor], Tensor]:
    """Return what ONNX Runtime computes of the file: samples (B, ...) → logits (B, C)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def logits(samples: Tensor) -> Tensor:
        (found,) = session.run([OUTPUT], {INPUT: samples.numpy()})
        return torch.from_numpy(found)

    return logits
