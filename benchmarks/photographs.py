"""Features of photographs against a plain library loop, and a search on features against training each trial.

``python -m benchmarks photographs --source FOLDER --target FOLDER --network NAME``.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.timing import interleaved
from iimt_search.data.open import open_domain
from iimt_search.features.extract import Extractor, Featurizer, load_training_task
from iimt_search.models.device import each_on_cores
from iimt_search.models.network import Architecture, Model
from iimt_search.models.pretrained import preprocessing_of
from iimt_search.models.weights import load_weights
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import DomainSpec, TaskSpec
from iimt_search.training.task_training import TaskTraining

_CHUNK = 32


def _plain(folder: Path, model: Model, count: int) -> None:
    """Compute features as a library's tutorial does: ImageFolder, DataLoader, float32, no gradient."""
    form = preprocessing_of(model.architecture.network)
    transform = v2.Compose(
        [
            v2.Resize(form.side, getattr(v2.InterpolationMode, form.interpolation.upper())),
            v2.CenterCrop(form.crop),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(form.mean, form.std),
        ]
    )
    assert model.backbone is not None
    images = ImageFolder(str(folder), transform)
    spread = Subset(images, np.linspace(0, len(images) - 1, count).astype(int).tolist())
    with torch.no_grad():
        for x, _ in DataLoader(spread, batch_size=_CHUNK, num_workers=torch.get_num_threads()):
            model.backbone.network(x)


def _ours(images: Any, featurizer: Featurizer, count: int) -> None:
    """Compute features of stored images, as a run does; decoding them is measured apart."""
    extract = Extractor(featurizer, images[:count])
    for _ in each_on_cores(lambda start: extract(start, min(start + _CHUNK, count)), range(0, count, _CHUNK)):
        pass


def measure_photographs(
    source: Path, target: Path, network: str, weights: str, count: int, rounds: int, steps: int
) -> dict[str, Any]:
    """Return images a second of features, and seconds of a step on features and of the network itself.

    Args:
        source: folder of class folders.
        target: the same.
        network: a pretrained network's name.
        weights: its weights.
        count: images whose features are computed.
        rounds: how often; the ways take turns.
        steps: training steps that are timed.
    """
    form, views = preprocessing_of(network), TrainSettings().views
    began = time.perf_counter()
    images = open_domain(DomainSpec(folder=str(source)), form.side, form.interpolation).train.x
    decoding = (time.perf_counter() - began) / len(images)
    count = min(count, len(images))
    model = Model(Architecture(network, "image", (3, form.side, form.side), 2, 0, 0.0)).eval()
    assert model.backbone is not None
    load_weights(model.backbone, network, weights)
    few = max(1, count // views)
    seconds = interleaved(
        {
            "plain": lambda: _plain(source, model, count),
            "ours": lambda: _ours(images, Featurizer(network, weights, 1), count),
            "views": lambda: _ours(images, Featurizer(network, weights, views), few),
        },
        rounds,
    )
    rate = {
        "plain loop, from files": count / seconds["plain"],
        "ours, from files": 1 / (decoding + seconds["ours"] / count),
        f"ours, each of {views} views": few * views / seconds["views"],
    }

    spec = TaskSpec.model_validate(
        {"name": "a->b", "source": {"folder": str(source)}, "target": {"folder": str(target)}}
    )
    step = {}
    for freeze in ("all", "nothing"):
        settings = TrainSettings(network=network, weights=weights, freeze=freeze, backbone_norm="frozen")
        training = TaskTraining(load_training_task(spec, settings), settings, 0)
        wanted = steps if freeze == "all" else max(1, steps // 20)
        training.advance(1)
        began = time.perf_counter()
        training.advance(1 + wanted)
        step[freeze] = (time.perf_counter() - began) / wanted
    domains = [open_domain(each, form.side, form.interpolation) for each in (*spec.source, spec.target)]
    each_image = decoding + views * seconds["views"] / (few * views)
    made = sum(len(domain.train.x) for domain in domains) * each_image
    length = TrainSettings().steps
    return {
        "images": count,
        "images_a_second": rate,
        "of_plain": rate["ours, from files"] / rate["plain loop, from files"],
        "step_seconds": {"on features": step["all"], "of the network": step["nothing"]},
        "search_seconds": {
            "24 trials on features, with their making": made + 24 * length * step["all"],
            "24 trials of the network": 24 * length * step["nothing"],
        },
    }
