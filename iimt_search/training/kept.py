"""What is kept of each evaluated checkpoint: predictions and embeddings to score, and the weights.

One safetensors file for each job, task and step. Logits and embeddings are float16, and every validator
is computed from the rounded values during the training too, so that a score computed later is the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from iimt_search.errors import ModelFileError
from iimt_search.files import atomic_write
from iimt_search.models.network import Architecture, Model, trained_model
from iimt_search.settings import NO_FILES, TrainSettings
from iimt_search.validators.contract import FewShot, Mixed, Predictions

_WEIGHT = "weight."
_GROUPS: dict[str, Any] = {"mixed": Mixed, "few_shot": FewShot}
_LARGEST = torch.finfo(torch.float16).max


def _flat(predictions: Predictions) -> dict[str, Tensor]:
    """Return name → tensor; the parts of a group are named ``group.part``."""
    tensors: dict[str, Tensor] = {}
    for field in fields(predictions):
        value = getattr(predictions, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value
        elif value is not None:
            tensors |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in fields(value)}
    return tensors


def _built(tensors: Mapping[str, Tensor]) -> Predictions:
    """Return what :func:`_flat` took apart; raises TypeError where a part is missing."""
    content: dict[str, Any] = {name: value for name, value in tensors.items() if "." not in name}
    for group, kind in _GROUPS.items():
        start = f"{group}."
        parts = {name.removeprefix(start): v for name, v in tensors.items() if name.startswith(start)}
        if parts:
            content[group] = kind(**parts)
    return Predictions(**content)


def _check_shapes(predictions: Predictions) -> None:
    """Check that the parts fit each other.

    Raises:
        ValueError: they do not; names the first that does not.
    """
    p, sizes = predictions, {"C": len(predictions.classifier_weight)}
    mixed, few = p.mixed, p.few_shot
    parts: tuple[tuple[str, Tensor | None, str], ...] = (
        ("classifier_weight", p.classifier_weight, "CD"),
        ("source_logits", p.source_logits, "SC"),
        ("source_labels", p.source_labels, "S"),
        ("source_embeddings", p.source_embeddings, "SD"),
        ("source_shares", p.source_shares, "C"),
        ("target_logits", p.target_logits, "TC"),
        ("target_embeddings", p.target_embeddings, "TD"),
        ("reverse_logits", p.reverse_logits, "SC"),
        ("short_reverse_logits", p.short_reverse_logits, "SC"),
        ("mixed.logits", None if mixed is None else mixed.logits, "MC"),
        ("mixed.labels", None if mixed is None else mixed.labels, "M"),
        ("mixed.same", None if mixed is None else mixed.same, "M"),
        ("few_shot.logits", None if few is None else few.logits, "FC"),
        ("few_shot.labels", None if few is None else few.labels, "F"),
    )
    for name, tensor, wanted in parts:
        if tensor is None:
            continue
        fits = tensor.dim() == len(wanted) and all(
            sizes.setdefault(side, length) == length
            for side, length in zip(wanted, tensor.shape, strict=True)
        )
        if name.endswith("labels"):
            fits = (
                fits and tensor.dtype == torch.int64 and bool(((tensor >= 0) & (tensor < sizes["C"])).all())
            )
        elif name != "mixed.same":
            fits = fits and tensor.dtype == torch.float32
        if not fits:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} of {tensor.dtype}, which does not fit the others"
            )


def _half(value: Tensor) -> Tensor:
    """Return a float16 copy, integers as they are."""
    value = value.detach().cpu()
    if value.is_floating_point():
        # Large is not infinite: only what was NaN or infinite before stays so.
        value = torch.where(value.isfinite(), value.clamp(-_LARGEST, _LARGEST), value).half()
    return value.contiguous().clone()


def _full(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def rounded(predictions: Predictions) -> Predictions:
    """Return the predictions as they will be read back."""
    return _built({name: _full(_half(value)) for name, value in _flat(predictions).items()})


@dataclass(frozen=True)
class KeptCheckpoint:
    """One task's model of one job after some training steps.

    Attributes:
        job: the job's key.
        task: the task's name.
        step: training steps done.
        path: its file.
    """

    job: str
    task: str
    step: int
    path: Path


@dataclass(frozen=True)
class KeptModel:
    """A kept checkpoint's model, and what it was trained with.

    Attributes:
        model: in evaluation mode.
        settings: the configuration.
        seed: of the training.
        arithmetic: in which its products were computed, ``float32`` or ``bfloat16``; "" where an earlier
            version has not recorded it.
        threads: PyTorch's, while it was trained; 0 where an earlier version has not recorded it.
    """

    model: Model
    settings: TrainSettings
    seed: int
    arithmetic: str = ""
    threads: int = 0


def save_kept(
    path: Path,
    predictions: Predictions,
    model: Model,
    settings: TrainSettings,
    seed: int,
    arithmetic: str = "",
) -> None:
    """Write a checkpoint's predictions and its model's weights, beside and renamed."""
    tensors = {name: _half(value) for name, value in _flat(predictions).items()}
    for name, weight in model.state_dict().items():
        tensors[_WEIGHT + name] = weight.detach().cpu().contiguous().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "architecture": json.dumps(model.architecture._asdict()),
        "settings": settings.model_dump_json(),
        "seed": str(seed),
        "arithmetic": arithmetic,
        "threads": str(torch.get_num_threads()),
    }
    with atomic_write(path) as beside:
        save_file(tensors, beside, metadata=about)


def _read(path: Path, weights: bool) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as content:
            wanted = [name for name in content.keys() if name.startswith(_WEIGHT) == weights]
            return {name: content.get_tensor(name) for name in wanted}
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is not there") from error
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path} is not a whole kept checkpoint: {error}") from error


def load_kept_predictions(path: Path) -> Predictions:
    """Return a kept checkpoint's predictions.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    try:
        predictions = _built({name: _full(value) for name, value in _read(path, weights=False).items()})
        _check_shapes(predictions)
        return predictions
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is not a whole kept checkpoint: {error}") from error


def load_kept_model(path: Path, weights: str = "") -> KeptModel:
    """Return a kept checkpoint's model.

    Args:
        path: its file.
        weights: where a file of pretrained weights lies by now, for the settings; "" for where it lay.

    Raises:
        ModelFileError: the file is missing or damaged.
    """
    state = {name.removeprefix(_WEIGHT): value for name, value in _read(path, weights=True).items()}
    try:
        with safe_open(path, framework="pt") as content:
            about = content.metadata()
        model = trained_model(Architecture(**json.loads(about["architecture"])), state)
        settings = TrainSettings.model_validate_json(about["settings"])
        if weights and settings.weights not in NO_FILES:
            settings = settings.model_copy(update={"weights": weights})
        arithmetic, threads = about.get("arithmetic", ""), int(about.get("threads", 0))
        return KeptModel(model.eval(), settings, int(about["seed"]), arithmetic, threads)
    except (LookupError, TypeError, ValueError, RuntimeError, MemoryError, SafetensorError) as error:
        raise ModelFileError(f"{path} is not a whole kept checkpoint: {error}") from error
