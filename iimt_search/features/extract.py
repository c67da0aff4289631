"""A domain of images → the same domain as features of a pretrained network."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from iimt_search.data.assemble import load_task
from iimt_search.data.augment import augment_photos
from iimt_search.data.store import array_hash, prepared_folder
from iimt_search.data.task import Domain, DomainTask, Labelled, Unlabelled
from iimt_search.features.store import Features, kept_features
from iimt_search.kinds import is_pretrained
from iimt_search.models.network import Architecture, Model
from iimt_search.models.pretrained import (
    Backbone,
    feature_dimension,
    load_weights,
    preprocessing_of,
    weights_key,
)
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec

_VERSION = 1


def _quiet(what: str, done: int, of: int) -> None:
    """Tell nothing."""


@dataclass(frozen=True)
class Featurizer:
    """Makes features of a domain's images, once for all trials, tasks and studies.

    Attributes:
        network: a pretrained network's name.
        weights: ``imagenet``, ``none`` or a file.
        views: features of each image: of itself, and of ``views`` − 1 augmentations of it.
        progress: takes what is done, how many and of how many.
    """

    network: str
    weights: str
    views: int
    progress: Callable[[str, int, int], None] = field(default=_quiet, compare=False)

    def __call__(self, domain: Domain) -> Domain:
        """Return a domain of kind ``features``: float16 (N, V, D), the first view of the image itself.

        Raises:
            DataError: the weights cannot be had or do not fit.
        """
        if domain.kind != "image":
            return domain
        train = self._part(domain.train, domain.sample_fingerprint)
        test = None if domain.test is None else self._part(domain.test, "")
        key = self._key(domain.fingerprint)
        samples = self._key(domain.sample_fingerprint)
        return replace(
            domain,
            train=train,
            test=test,
            kind="features",
            augmentation="views",
            fingerprint=key,
            sample_fingerprint=samples,
        )

    def _key(self, of: str) -> str:
        weights = weights_key(self.network, self.weights)
        parts = (str(_VERSION), of, self.network, weights, str(self.views))
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    def _part(self, part: Labelled | Unlabelled, fingerprint: str) -> Labelled | Unlabelled:
        images = part.x
        if not fingerprint:
            digest = array_hash(images.dtype, images.shape)
            digest.update(np.ascontiguousarray(images).data)
            fingerprint = digest.hexdigest()
        shape = (len(images), self.views, feature_dimension(self.network))
        compute = _Extractor(self, images)
        folder = prepared_folder(f"features-{self._key(fingerprint)[:32]}")
        x = kept_features(folder, shape, compute, lambda done, of: self.progress("features", done, of))
        return Labelled(x, part.y, part.index) if isinstance(part, Labelled) else Unlabelled(x, part.index)


def featurizer_of(
    settings: TrainSettings, progress: Callable[[str, int, int], None] = _quiet
) -> Featurizer | None:
    """Return what makes the features that a training is of; None where it is of the samples themselves."""
    if not is_pretrained(settings.network) or settings.freeze != "all":
        return None
    return Featurizer(settings.network, settings.weights, settings.views, progress)


def training_size(settings: TrainSettings) -> int:
    """Return the side of the images of a training, in pixels; 0 for what is natural for the data."""
    if settings.image_size or not is_pretrained(settings.network):
        return settings.image_size
    return preprocessing_of(settings.network).side


def load_training_task(
    spec: TaskSpec, settings: TrainSettings, progress: Callable[[str, int, int], None] = _quiet
) -> DomainTask:
    """Return a task as a training with ``settings`` sees it: of its samples, or of features of its images.

    Raises:
        DataError: a domain cannot be made, or the network's weights cannot be had.
        UsageError: there is no such network.
    """
    size, featurizer = training_size(settings), featurizer_of(settings, progress)
    if featurizer is None:
        return load_task(spec, size, settings.data_fraction)
    return load_task(spec, size, settings.data_fraction, featurizer)


class _Extractor:
    """Computes the features of some images; the network is built at the first call."""

    def __init__(self, featurizer: Featurizer, images: NDArray[np.uint8]) -> None:
        self._featurizer, self._images = featurizer, images
        self._model: Model | None = None

    def _built(self) -> Model:
        if self._model is None:
            featurizer, shape = self._featurizer, self._images.shape[1:]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = Model(Architecture(featurizer.network, "image", shape, 2, 0, 0.0))
            load_weights(cast(Backbone, model.backbone), featurizer.network, featurizer.weights)
            self._model = model.eval()
        return self._model

    def __call__(self, start: int, end: int) -> Features:
        """Return float16 (end − start, V, D)."""
        model = self._built()
        generator = torch.Generator().manual_seed(derive_seed(0, "views", start))
        with torch.no_grad():
            x = model.normalise(torch.from_numpy(np.array(self._images[start:end])))
            views = [model.embed(x)]
            for _ in range(self._featurizer.views - 1):
                views.append(model.embed(augment_photos(x, 1.0, generator)))
        found: Features = torch.stack(views, dim=1).half().numpy()
        return found
