"""Exported models, ready to use."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from iimt_search.errors import ModelFileError, UsageError
from iimt_search.exporting.formats import read_metadata
from iimt_search.exporting.model_folder import BACKBONE_PREFIX, SCHEMA
from iimt_search.kinds import OWN
from iimt_search.models.device import resolve_device
from iimt_search.models.network import Architecture, Model, trained_model


class Predictor(nn.Module):
    """An exported model with its preprocessing.

    ``forward`` takes samples of the kind that the model was trained on and returns logits (B, C):
    images of any size, uint8 or float (B, channels, H, W) with values 0 to 255, of which the middle
    square is used (one channel is repeated to three); series (B, channels, length) and vectors
    (B, features) as they were measured.

    An ensemble returns the logarithm of its members' mean probabilities, which are logits, too.

    Attributes:
        model: the trained model; of an ensemble the first member.
        others: the other members of an ensemble.
        classes: class names, in logit order.
        metadata: the content of ``model.json``.
    """

    def __init__(self, model: Model, metadata: dict[str, Any], others: Iterable[Model] = ()) -> None:
        super().__init__()
        self.model = model
        self.others = nn.ModuleList(others)
        self.metadata = metadata
        self.classes: tuple[str, ...] = tuple(metadata["classes"])
        self._share_backbone()
        self.kind: str = metadata["preprocessing"]["kind"]
        self.sample_shape: tuple[int, ...] = tuple(metadata["preprocessing"]["sample_shape"])
        self.interpolation: str = metadata["preprocessing"].get("interpolation", "bicubic")

    @property
    def members(self) -> list[Model]:
        """The single models, the first first."""
        return [self.model, *(cast(Model, other) for other in self.others)]

    def preprocess(self, x: Tensor) -> Tensor:
        """Bring samples to the shape that the model was trained with.

        Raises:
            ValueError: they cannot be.
        """
        if self.kind == "image" and x.dim() == 4 and x.shape[1] in (1, self.sample_shape[0]):
            x = _square(x.expand(-1, self.sample_shape[0], -1, -1), self.sample_shape[1], self.interpolation)
        if tuple(x.shape[1:]) != self.sample_shape:
            raise ValueError(
                f"samples must be (B, {', '.join(map(str, self.sample_shape))}), got {tuple(x.shape)}"
            )
        return x

    def _share_backbone(self) -> None:
        """Let members whose pretrained network is the same, because it was not trained, have one."""
        first, *others = self.members
        if first.backbone is None:
            return
        known = first.backbone.state_dict()
        for other in others:
            backbone = other.backbone
            if backbone is not None and all(
                torch.equal(value, known[name]) for name, value in backbone.state_dict().items()
            ):
                cast(Any, other.encoder).backbone = first.backbone

    def members_logits(self, x: Tensor) -> Tensor:
        """Return logits of each member (M, B, C) for samples as :meth:`preprocess` returns them."""
        first = self.model.backbone
        features = None if first is None else first(self.model.normalise(x))
        found = []
        for member in self.members:
            if features is None or member.backbone is not first:
                found.append(member(x))
            else:
                found.append(member.classify(cast(Any, member.encoder)[1:](features)))
        return torch.stack(found)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C)."""
        every = self.members_logits(self.preprocess(x))
        if len(every) == 1:
            return every[0]
        return every.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(every))


def _square(x: Tensor, size: int, interpolation: str) -> Tensor:
    """Cut the middle square of images (B, channels, H, W) and resize it to ``size``."""
    height, width = x.shape[2:]
    if (height, width) == (size, size):
        return x
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    x = x[:, :, top : top + side, left : left + side].float()
    return functional.interpolate(x, (size, size), mode=interpolation, antialias=True).clamp(0, 255)


def load_model(
    folder: str | Path, device: str | torch.device = "cpu", *, run_python: bool = False
) -> Predictor:
    """Load an exported model, in evaluation mode.

    Args:
        folder: what ``iimt-search best --export`` wrote for one task.
        device: where to put it; ``auto`` is the first GPU where there is one.
        run_python: whether a network that is named ``python:module:function`` may be made: its code runs.

    Raises:
        UsageError: a GPU that this machine does not have, the folder holds one for each of several models, or
            the network is code that may not run.
        ModelFileError: a file is missing, damaged, or of another schema version.
    """
    folder = Path(folder)
    if isinstance(device, str):
        device = resolve_device(device)
    if not (folder / "model.json").exists() and (inside := sorted(folder.glob("*/model.json"))):
        names = ", ".join(str(path.parent) for path in inside)
        raise UsageError(f"{folder} holds several models; name one: {names}")
    try:
        metadata = read_metadata(folder)
        if metadata["schema"] != SCHEMA:
            raise ModelFileError(f"{folder}/model.json has schema {metadata['schema']}, this reads {SCHEMA}")
        architecture = Architecture(**metadata["architecture"])
        if architecture.network.startswith(OWN) and not run_python:
            raise UsageError(
                f"the network of {folder} is {architecture.network}: loading it runs that code; where it is "
                f"yours, say `run_python`"
            )
        first = load_file(folder / "model.safetensors")
        frozen = {name: tensor for name, tensor in first.items() if name.startswith(BACKBONE_PREFIX)}
        members = [trained_model(architecture, first)]
        for name in metadata["others"]:
            own = load_file(folder / name)
            whole = any(key.startswith(BACKBONE_PREFIX) for key in own)
            members.append(trained_model(architecture, own if whole else frozen | own))
        predictor = Predictor(members[0], metadata, members[1:])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFileError(f"{error.filename} is not there; is {folder} an exported model?") from error
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, RuntimeError, MemoryError) as error:
        raise ModelFileError(f"{folder} is not a whole exported model: {error}") from error
    return predictor.to(device).eval()
