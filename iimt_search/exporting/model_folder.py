"""The exported model: ``model.safetensors`` and ``model.json``, one folder for each task."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from iimt_search import __version__
from iimt_search.data.assemble import load_task_of
from iimt_search.data.task import DomainTask
from iimt_search.exporting.formats import FORMATS, read_metadata, write_metadata
from iimt_search.features.extract import image_model
from iimt_search.files import atomic_write
from iimt_search.models.network import Model
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.training.kept import KeptCheckpoint, load_kept_model

SCHEMA = 2
# Where a model's weights have those of its pretrained network.
BACKBONE_PREFIX = "encoder.backbone."
_SQUARE = "the middle square, {}, antialiased; values 0 to 255"
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "optuna", "safetensors")


def _versions() -> dict[str, str]:
    versions = {"iimt-search": __version__}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _write_weights(path: Path, model: Model, first: Mapping[str, Tensor] | None = None) -> None:
    """Write a model's weights, without a pretrained network that is the ``first`` member's, bit by bit."""
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    shared = [name for name in weights if name.startswith(BACKBONE_PREFIX)]
    if first is not None and all(torch.equal(weights[name], first[name]) for name in shared):
        weights = {name: tensor for name, tensor in weights.items() if name not in shared}
    with atomic_write(path) as beside:
        beside.write_bytes(save(weights))  # save_file would keep other users from reading it


def _remove_all_but(folder: Path, members: Sequence[str]) -> None:
    """Delete the weights of former members, and what was made of the model in other formats."""
    for path in folder.glob("member-*.safetensors"):
        if path.name not in members:
            path.unlink()
    for kind in FORMATS.values():
        (folder / kind.file).unlink(missing_ok=True)


def add_members(folder: Path, others: Sequence[Model]) -> None:
    """Make an ensemble of an exported model: its probabilities will be the mean over all members.

    Args:
        folder: an exported model.
        others: trained with the same configuration and other seeds; none makes it a single model.

    Raises:
        ValueError: a member is of another architecture.
    """
    content = read_metadata(folder)
    for other in others:
        if json.loads(json.dumps(other.architecture._asdict())) != content["architecture"]:
            raise ValueError(f"an ensemble needs members of one architecture, got {other.architecture}")
    names = [f"member-{index}.safetensors" for index in range(1, len(others) + 1)]
    first = load_file(folder / "model.safetensors") if others else {}
    for name, other in zip(names, others, strict=True):
        _write_weights(folder / name, other, first)
    write_metadata(folder, {**content, "others": names, "formats": {}})
    _remove_all_but(folder, names)


def export_model(
    folder: Path,
    *,
    model: Model,
    task: DomainTask,
    settings: TrainSettings,
    seed: int,
    step: int,
    scores: Mapping[str, float],
    arithmetic: str = "",
) -> None:
    """Write a trained model to ``folder``, each file beside and renamed, ``model.json`` last.

    Args:
        folder: made where absent.
        model: the trained model.
        task: what it was trained on.
        settings: its configuration.
        seed: the training's seed.
        step: training steps after which the model is taken.
        scores: validator name → score, then.
        arithmetic: in which its products were computed; "" where that is not known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / "model.safetensors", model)
    interpolation = settings.form.interpolation
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "task": task.name,
        "architecture": model.architecture._asdict(),
        "preprocessing": {
            "kind": task.kind,
            "sample_shape": list(task.sample_shape),
            "resize": _SQUARE.format(interpolation) if task.kind == "image" else "none",
            "interpolation": interpolation,
            "white_level": task.white_level,
            "normalise": "by the model's own buffers shift and scale",
        },
        "others": [],
        "formats": {},
        "classes": list(task.classes),
        "hyperparameters": settings.model_dump(mode="json"),
        "scores": dict(scores),
        "seed": seed,
        "step": step,
        "arithmetic": arithmetic or None,
        "threads": torch.get_num_threads(),
        "data_fingerprint": task.fingerprint,
        "samples": {
            "source_train": len(task.source_train),
            "source_val": len(task.source_val),
            "target": len(task.target),
        },
        "packages": _versions(),
    }
    write_metadata(folder, content)
    _remove_all_but(folder, ())


def export_kept(
    kept: KeptCheckpoint,
    spec: TaskSpec,
    scores: Mapping[str, float],
    folder: Path,
    others: Sequence[KeptCheckpoint] = (),
    weights: str = "",
) -> None:
    """Write the model of a kept checkpoint to ``folder``, as an ensemble with those of others.

    A model of features becomes one of images.

    Args:
        kept: the checkpoint.
        spec: its task.
        scores: validator → score, for the model card.
        folder: made where absent; an exported model in it is replaced.
        others: checkpoints of the same configuration, trained with other seeds.
        weights: where a file of pretrained weights lies by now; "" for where it lay.

    Raises:
        ModelFileError: a checkpoint is damaged.
        DataError: the task's data, or a pretrained network's weights, are not at hand.
    """
    found = load_kept_model(kept.path, weights)
    task = load_task_of(spec, found.settings)
    export_model(
        folder,
        model=image_model(found.model, found.settings, task.sample_shape[-1]),
        task=task,
        settings=found.settings,
        seed=found.seed,
        step=kept.step,
        scores=scores,
        arithmetic=found.arithmetic,
    )
    members = [load_kept_model(other.path, weights) for other in others]
    side = task.sample_shape[-1]
    add_members(folder, [image_model(member.model, member.settings, side) for member in members])
