"""A domain of images → the same domain as features of a pretrained network; and back to models of images."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iimt_search.data.assemble import load_task_of
from iimt_search.data.store import array_fingerprint, prepared_folder
from iimt_search.data.task import Domain, DomainTask, Labelled, Unlabelled
from iimt_search.features.store import Features, kept_features
from iimt_search.kinds import AUGMENTATIONS, is_pretrained
from iimt_search.models.device import BFLOAT16, FLOAT32, each_on_cores, has_bfloat16
from iimt_search.models.network import Architecture, Model
from iimt_search.models.pretrained import AT_ONCE, feature_dimension
from iimt_search.models.weights import load_weights, weights_key
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec

_VERSION = 1
# The augmentation of photographs, where a domain names none.
_PHOTOS = "photos"

Progress = Callable[[str, int, int], None]


def _quiet(what: str, done: int, of: int) -> None:
    """Tell nothing."""


@dataclass(frozen=True)
class Featurizer:
    """Makes features of a domain's images, once for all trials, tasks and studies.

    Attributes:
        network: a pretrained network's name.
        weights: ``imagenet``, ``none`` or a file.
        views: features of each image: of itself, and of ``views`` − 1 augmentations of it.
        augmentation: its name.
        precision: as ``train.precision``.
        device: where the network computes.
        progress: takes what is done, how many and of how many.
    """

    network: str
    weights: str
    views: int
    augmentation: str = _PHOTOS
    precision: str = "auto"
    device: str = field(default="cpu", compare=False)
    progress: Progress = field(default=_quiet, compare=False)

    def __call__(self, domain: Domain) -> Domain:
        """Return a domain of kind ``features``: float16 (N, V, D), the first view of the image itself.

        Raises:
            DataError: the weights cannot be had or do not fit.
        """
        if domain.kind != "image":
            return domain
        return replace(
            domain,
            train=self._part(domain.train, domain.sample_fingerprint),
            test=None if domain.test is None else self._part(domain.test, ""),
            kind="features",
            augmentation="views",
            fingerprint=self._key(domain.fingerprint),
            sample_fingerprint=self._key(domain.sample_fingerprint),
        )

    @property
    def arithmetic(self) -> str:
        """In which the network computes: ``float32`` or ``bfloat16``."""
        if self.precision != "auto":
            return self.precision
        return BFLOAT16 if has_bfloat16(torch.device(self.device)) else FLOAT32

    def _key(self, of: str) -> str:
        weights = weights_key(self.network, self.weights)
        parts = (_VERSION, of, self.network, weights, self.views, self.augmentation)
        return hashlib.sha256("\x1f".join(map(str, (*parts, self.arithmetic))).encode()).hexdigest()

    def _part(self, part: Labelled | Unlabelled, fingerprint: str) -> Labelled | Unlabelled:
        images = part.x
        fingerprint = fingerprint or array_fingerprint(images)
        shape = (len(images), self.views, feature_dimension(self.network))
        folder = prepared_folder(f"features-{self._key(fingerprint)[:32]}")
        about = {"network": self.network, "weights": self.weights, "views": self.views}
        x = kept_features(
            folder,
            shape,
            Extractor(self, images),
            map if torch.device(self.device).type == "cuda" else each_on_cores,
            lambda done, of: self.progress(f"features of {self.network}", done, of),
            about,
        )
        Unlabelled(images).release()
        return Labelled(x, part.y, part.index) if isinstance(part, Labelled) else Unlabelled(x, part.index)


def featurizer_of(
    spec: TaskSpec, settings: TrainSettings, device: str = "cpu", progress: Progress = _quiet
) -> Featurizer | None:
    """Return what makes the features that a training is of; None where it is of the samples themselves."""
    if not is_pretrained(settings.network) or settings.freeze != "all":
        return None
    return Featurizer(
        network=settings.network,
        weights=settings.weights,
        views=settings.views,
        augmentation=spec.target.augmentation or _PHOTOS,
        precision=settings.precision,
        device=device,
        progress=progress,
    )


def load_training_task(
    spec: TaskSpec, settings: TrainSettings, device: str = "cpu", progress: Progress = _quiet
) -> DomainTask:
    """Return a task as a training with ``settings`` sees it: of its samples, or of features of its images.

    Args:
        spec: its domains.
        settings: of the training.
        device: where features are computed that are not kept yet.
        progress: is told of them.

    Raises:
        DataError: a domain cannot be made, or the network's weights cannot be had.
        UsageError: there is no such network.
    """
    featurizer = featurizer_of(spec, settings, device, progress)
    if featurizer is None:
        return load_image_task(spec, settings)
    return load_task_of(spec, settings, featurizer)


def load_image_task(spec: TaskSpec, settings: TrainSettings) -> DomainTask:
    """Return a task of its samples themselves; those of a pretrained network are augmented as photographs.

    Raises:
        DataError: a domain cannot be made.
        UsageError: there is no such network.
    """
    task = load_task_of(spec, settings)
    if is_pretrained(settings.network) and task.kind == "image" and spec.target.augmentation is None:
        return replace(task, augmentation=_PHOTOS)
    return task


def _image_network(architecture: Architecture, weights: str) -> Model:
    """Return a new model of images whose pretrained network has its weights; the same one every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model(architecture)
    assert model.backbone is not None
    load_weights(model.backbone, architecture.network, weights)
    return model


def image_model(model: Model, settings: TrainSettings, side: int) -> Model:
    """Return a trained model as one of images, with one set of statistics: the target's.

    Args:
        model: the trained model.
        settings: that it was trained with.
        side: of the images in pixels.

    Raises:
        DataError: the network's weights cannot be had.
    """
    ours = model.architecture
    if ours.kind != "features" and not ours.by_domain:
        return model
    shape = (3, side, side) if ours.kind == "features" else ours.sample_shape
    # The weights of a network that was trained itself are in the model.
    weights = settings.weights if ours.kind == "features" else "none"
    whole = _image_network(ours._replace(kind="image", sample_shape=shape, by_domain=False), weights)
    trained = {name: value for name, value in model.state_dict().items() if name not in ("shift", "scale")}
    whole.load_state_dict(trained, strict=False)
    return whole.train(model.training)


def middle(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the middle squares of images (N, channels, H, W), a copy: what a network sees of them."""
    top, left = ((length - side) // 2 for length in images.shape[2:])
    return np.ascontiguousarray(images[:, :, top : top + side, left : left + side])


class Extractor:
    """Computes the features of some images, in several threads; the network is built at the first call."""

    def __init__(self, featurizer: Featurizer, images: NDArray[np.uint8]) -> None:
        self._featurizer, self._images = featurizer, images
        self._device = torch.device(featurizer.device)
        self._bfloat16 = featurizer.arithmetic == BFLOAT16
        self._augment = AUGMENTATIONS[featurizer.augmentation].load()
        self._lock = Lock()

    @cached_property
    def _model(self) -> Model:
        featurizer = self._featurizer
        architecture = Architecture(featurizer.network, "image", self._images.shape[1:], 2, 0, 0.0)
        model = _image_network(architecture, featurizer.weights)
        if self._bfloat16:  # images are normalised and augmented in float32
            model.encoder.to(torch.bfloat16)
        return model.eval().to(self._device)

    def _features(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        return self._model.embed(x.to(torch.bfloat16) if self._bfloat16 else x)

    def __call__(self, start: int, end: int) -> Features:
        """Return float16 (end − start, V, D)."""
        with self._lock:
            model = self._model
        assert model.backbone is not None
        generator = torch.Generator(self._device).manual_seed(derive_seed(0, "views", start))
        images = middle(self._images[start:end], model.backbone.crop)
        at_once = AT_ONCE if self._device.type == "cpu" else len(images)
        parts = []
        with torch.no_grad():
            for part in torch.from_numpy(images).split(at_once):
                x = model.normalise(part.to(self._device))
                views = [self._features(x)]
                for _ in range(self._featurizer.views - 1):
                    views.append(self._features(self._augment(x, 1.0, generator)))
                parts.append(torch.stack(views, dim=1).half().cpu())
        found: Features = torch.cat(parts).numpy()
        return found
