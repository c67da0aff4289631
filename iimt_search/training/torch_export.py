"""The format ``torch-export``: a PT2 archive that ``torch.export.load`` reads without this package."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def program_of(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """Trace a model whose batch size is free.

    Args:
        model: in evaluation mode, on the processor.
        example: samples (B, ...), B of at least 2.
    """
    with torch.no_grad():
        return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def write(model: nn.Module, example: Tensor, metadata: Mapping[str, Any], path: Path) -> None:
    """Write a model to ``path``; ``metadata`` is the extra file ``model.json`` in it.

    Args:
        model: as for :func:`program_of`.
        example: as for :func:`program_of`.
        metadata: what is known of the model, as JSON values.
        path: ends in ``.pt2``.
    """
    about = json.dumps(dict(metadata), ensure_ascii=False)
    torch.export.save(program_of(model, example), path, extra_files={"model.json": about})


def read(path: Path) -> Callable[[Tensor], Tensor]:
    """Return what the archive computes: samples (B, ...) → logits (B, C)."""
    module = torch.export.load(path).module()

    def logits(samples: Tensor) -> Tensor:
        found: Tensor = module(samples)
        return found

    return logits
