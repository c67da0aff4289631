"""The exported model: ``model.safetensors``, ``model.json`` and a model card, one folder for each task."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from iimt_search import __version__
from iimt_search.data.task import DomainTask
from iimt_search.files import write_beside
from iimt_search.models.network import Model
from iimt_search.settings import TrainSettings
from iimt_search.validators.registry import VALIDATORS

SCHEMA = 2
_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "optuna", "safetensors")


def _versions() -> dict[str, str]:
    found = {"iimt-search": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


_INPUTS = {
    "image": "images, cut to a square and resized to {shape} (channels × height × width), values 0 to 255",
    "series": "time series of {shape} (channels × length), as measured",
    "vector": "vectors of {shape} features, as measured",
}
_RESIZE = {
    "image": "the middle square, bicubic, antialiased; values 0 to 255",
    "series": "none",
    "vector": "none",
}


def _card(
    task: DomainTask, settings: TrainSettings, scores: Mapping[str, float], seed: int, step: int
) -> str:
    rows = "\n".join(
        f"| {validator} | {value:.4f} | {VALIDATORS[validator].unit} "
        f"| {'higher' if VALIDATORS[validator].higher_is_better else 'lower'} is better |"
        for validator, value in scores.items()
    )
    searched = ", ".join(
        f"{key} = {getattr(settings, key):.4g}" for key in ("lambda_max", "alpha", "temperature", "k")
    )
    shape = "×".join(map(str, task.sample_shape))
    return f"""# {task.name}

A classifier of {len(task.classes)} classes ({", ".join(task.classes)}) for the target domain of
**{task.name}**, trained by iimt-search {__version__} with labels of its source domain only.

- Input: {_INPUTS[task.kind].format(shape=shape)}.
- Training: {step} of {settings.steps} steps on {len(task.source_train)} labelled source and
  {len(task.target)} unlabelled target samples; {searched}; seed {seed}.
- Chosen without any target label. The scores below are proxies, not accuracies on the target.

| validator | score | range | |
|---|---|---|---|
{rows}

```python
import iimt_search

model = iimt_search.load_model("path/to/this/folder")
```

Known limits: the classifier knows the {len(task.classes)} classes above and no "other"; its confidence
is not calibrated on the target.
"""


def _write_weights(path: Path, model: Model) -> None:
    weights = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    beside = path.with_suffix(".tmp")
    save_file(weights, beside)
    os.replace(beside, path)


_MEMBERS = "## Ensemble"


def _write_card_of_members(folder: Path, count: int) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8").split(_MEMBERS)[0].rstrip() + "\n"
    if count:
        card += f"""
{_MEMBERS}

The model above, whose scores these are, and {count} of the same configuration, trained with other seeds. The
probabilities are the mean over all of them.
"""
    write_beside(folder / "README.md", card)


def _remove_members(folder: Path, but: Sequence[str]) -> None:
    for path in folder.glob("member-*.safetensors"):
        if path.name not in but:
            path.unlink()


def drop_members(folder: Path) -> None:
    """Make a single model of an exported ensemble: its first member stays."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    content["others"] = []
    write_beside(folder / "model.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    _write_card_of_members(folder, 0)
    _remove_members(folder, ())


def add_members(folder: Path, others: Sequence[Model]) -> None:
    """Make an ensemble of an exported model: its probabilities will be the mean over all members.

    Args:
        folder: an exported model.
        others: trained with the same configuration and other seeds; none makes it a single model.

    Raises:
        ValueError: a member is of another architecture.
    """
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    for other in others:
        if json.loads(json.dumps(other.architecture._asdict())) != content["architecture"]:
            raise ValueError(f"an ensemble needs members of one architecture, got {other.architecture}")
    names = [f"member-{index}.safetensors" for index in range(1, len(others) + 1)]
    for name, other in zip(names, others, strict=True):
        _write_weights(folder / name, other)
    _write_card_of_members(folder, len(others))
    content["others"] = names
    write_beside(folder / "model.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    _remove_members(folder, names)


def export_model(
    folder: Path,
    *,
    model: Model,
    task: DomainTask,
    settings: TrainSettings,
    seed: int,
    step: int,
    scores: Mapping[str, float],
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
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(folder / "model.safetensors", model)
    write_beside(folder / "README.md", _card(task, settings, scores, seed, step))
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "task": task.name,
        "architecture": model.architecture._asdict(),
        "preprocessing": {
            "kind": task.kind,
            "sample_shape": list(task.sample_shape),
            "resize": _RESIZE[task.kind],
            "normalise": "by the model's own buffers shift and scale",
        },
        "others": [],
        "classes": list(task.classes),
        "hyperparameters": settings.model_dump(mode="json"),
        "scores": dict(scores),
        "seed": seed,
        "step": step,
        "threads": torch.get_num_threads(),
        "data_fingerprint": task.fingerprint,
        "packages": _versions(),
    }
    write_beside(folder / "model.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    _remove_members(folder, ())
