"""Exported models, ready to use."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from iimt_search.errors import ModelFileError
from iimt_search.models.network import Architecture, Model
from iimt_search.training.export import SCHEMA


class Predictor(nn.Module):
    """An exported model with its preprocessing.

    ``forward`` takes images of any size, uint8 or float (B, channels, H, W) with values 0 to 255, and
    returns logits (B, C). A one-channel image is repeated to the channels that the model wants.

    Attributes:
        classes: class names, in logit order.
        metadata: the content of ``model.json``.
    """

    def __init__(self, model: Model, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.metadata = metadata
        self.classes: tuple[str, ...] = tuple(metadata["classes"])
        self.channels: int = metadata["preprocessing"]["channels"]
        self.size: tuple[int, ...] = tuple(metadata["preprocessing"]["size"])

    def preprocess(self, x: Tensor) -> Tensor:
        """Bring images to the channels and size that the model was trained with."""
        if x.dim() != 4 or x.shape[1] not in (1, self.channels):
            raise ValueError(f"images must be (B, {self.channels}, H, W), got {tuple(x.shape)}")
        if x.shape[1] != self.channels:
            x = x.expand(-1, self.channels, -1, -1)
        if tuple(x.shape[2:]) != self.size:
            x = functional.interpolate(x.float(), self.size, mode="bicubic", antialias=True).clamp(0, 255)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C)."""
        logits: Tensor = self.model(self.preprocess(x))
        return logits


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """Load an exported model, in evaluation mode.

    Args:
        folder: what ``iimt-search best --export`` wrote for one task.
        device: where to put it.

    Raises:
        ModelFileError: a file is missing, damaged, or of another schema version.
    """
    folder = Path(folder)
    try:
        metadata = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if metadata["schema"] != SCHEMA:
            raise ModelFileError(f"{folder}/model.json has schema {metadata['schema']}, this reads {SCHEMA}")
        model = Model(Architecture(**metadata["architecture"]))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        predictor = Predictor(model, metadata)
    except FileNotFoundError as error:
        raise ModelFileError(f"{error.filename} is not there; is {folder} an exported model?") from error
    except (json.JSONDecodeError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise ModelFileError(f"{folder} is not a whole exported model: {error}") from error
    return predictor.to(device).eval()
