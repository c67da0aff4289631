"""Networks of torchvision, of timm, or of one's own, without their classifiers, as encoders of photographs.

Their names begin with where they come from: ``torchvision:resnet50``, ``timm:convnext_tiny``,
``python:package.module:function``.
"""

import difflib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from iimt_search.errors import UsageError
from iimt_search.kinds import ImageForm
from iimt_search.registry import call_own

_IMAGENET_CLASSES = 1000
# Outputs that only a training from scratch uses.
AUXILIARY = ("aux1", "aux2", "AuxLogits")


# Images that pass through such a network on a processor together: with more, mapping memory at each layer and
# giving it back costs as much as the arithmetic.
AT_ONCE = 4
AT_ONCE_ON_GPU = 32


class Preprocessing(NamedTuple):
    """What the images that a network was trained with had gone through.

    Attributes:
        side: of the middle square, in pixels.
        crop: side of the middle of that square, which the network sees.
        mean: of red, green and blue, in [0, 1].
        std: as ``mean``.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    side: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"


class Backbone(nn.Module):
    """A classification network without its classifier.

    Trained without statistics of batches, it takes few images at a time and computes their layers' outputs
    a second time for the gradients (Chen et al. 2016, arXiv 1604.06174): they do not have to be held.

    Args:
        network: normalised images (B, 3, crop, crop) → features (B, D).
        preprocessing: of the images that it takes.
        side: of the images that come, in pixels.

    Attributes:
        crop: side of the middle that the network sees, in pixels.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, side: int) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.crop = max(1, round(side * preprocessing.crop / preprocessing.side))

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, D) of normalised images (B, 3, side, side), or of one channel."""
        top, left = ((side - self.crop) // 2 for side in x.shape[2:])
        cut = x[:, :, top : top + self.crop, left : left + self.crop]
        cut = cut.expand(-1, 3, -1, -1) if cut.shape[1] == 1 else cut
        if self.training and torch.is_grad_enabled() and not self._of_batches():
            size = AT_ONCE if x.device.type == "cpu" else AT_ONCE_ON_GPU
            if (
                len(cut) > size
            ):  # only the images and their features are held; the layers' outputs are made again
                parts = [checkpoint(self.network, part, use_reentrant=False) for part in cut.split(size)]
                return torch.cat(parts).flatten(1)
        features: Tensor = self.network(cut)
        return features.flatten(1)

    def _of_batches(self) -> bool:
        """Return whether an image's features depend on the others of its batch."""
        return any(isinstance(layer, _BatchNorm) and layer.training for layer in self.modules())


class DomainNorm(_BatchNorm):
    """BatchNorm with statistics for each domain (Chang et al. 2019, arXiv 1906.03950), and common weights.

    Its own statistics are the target's.

    Args:
        norm: the layer that it takes the place of.

    Attributes:
        of_source: whether what comes is of the source.
        source_mean: running mean of the source, float (channels,).
        source_var: running variance of the source, float (channels,).
    """

    source_mean: Tensor
    source_var: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.of_source = False
        self.register_buffer("source_mean", torch.zeros(norm.num_features))
        self.register_buffer("source_var", torch.ones(norm.num_features))
        self.load_state_dict(norm.state_dict())

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any."""

    def forward(self, input: Tensor) -> Tensor:
        """Return normalised samples, of the domain that :attr:`of_source` says."""
        if not self.of_source:
            return super().forward(input)
        batch = self.training
        held = batch and not self.track_running_stats
        return functional.batch_norm(
            input,
            None if held else self.source_mean,
            None if held else self.source_var,
            self.weight,
            self.bias,
            batch,
            0.1 if self.momentum is None else self.momentum,
            self.eps,
        )

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        """Take the statistics of both domains from a layer that has one set."""
        for name, of in (("source_mean", "running_mean"), ("source_var", "running_var")):
            if prefix + of in state:
                state.setdefault(prefix + name, state[prefix + of])
        super()._load_from_state_dict(state, prefix, *args)


def normalise_by_domain(network: nn.Module) -> None:
    """Put :class:`DomainNorm` in the place of every BatchNorm layer of a network."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, _BatchNorm) and layer.track_running_stats:
            network.set_submodule(name, DomainNorm(layer))


class _Loaded(NamedTuple):
    """A network as its library makes it.

    Attributes:
        network: without its classifier.
        preprocessing: of its images.
        classifier: the layer's name in published files, or "".
    """

    network: nn.Module
    preprocessing: Preprocessing
    classifier: str


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _unknown(family: str, name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 5, 0.4) or names[:5]
    others = len(names) - len(close)
    return f"there is no network {family}:{name}; there are {', '.join(close)} and {others} others"


def _torchvision(name: str) -> _Loaded:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise UsageError(_unknown("torchvision", name, names))
    network = models.get_model(name, weights=None)
    for auxiliary in AUXILIARY:
        if hasattr(network, auxiliary):
            setattr(network, auxiliary, None)
            network.aux_logits = False
    classifiers = [
        path
        for path, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == _IMAGENET_CLASSES
    ]
    if not classifiers:
        raise UsageError(f"torchvision:{name} has no linear classifier that could be left out")
    network.set_submodule(classifiers[-1], nn.Identity())
    preset = models.get_model_weights(name).DEFAULT.transforms()
    return _Loaded(
        network,
        Preprocessing(
            side=preset.resize_size[0],
            crop=preset.crop_size[0],
            mean=_three(preset.mean),
            std=_three(preset.std),
            interpolation=preset.interpolation.value,
        ),
        classifiers[-1],
    )


def import_timm() -> Any:
    """Return the package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise UsageError("timm's networks need it: pip install 'iimt-search[timm]'") from error
    return timm


def _timm(name: str) -> _Loaded:
    timm = import_timm()
    if not timm.is_model(name):
        raise UsageError(_unknown("timm", name, timm.list_models()))
    network = timm.create_model(name, pretrained=False, num_classes=0)
    config = timm.data.resolve_model_data_config(network)
    crop = int(config["input_size"][1])
    return _Loaded(
        network,
        Preprocessing(
            side=round(crop / config["crop_pct"]),
            crop=crop,
            mean=_three(config["mean"]),
            std=_three(config["std"]),
            interpolation="bicubic" if config["interpolation"] == "bicubic" else "bilinear",
        ),
        network.pretrained_cfg.get("classifier") or "head",
    )


def _own(name: str) -> _Loaded:
    try:
        network = call_own(name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"network python:{name} cannot be found: {error}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"python:{name} must return a torch.nn.Module, got {type(network).__name__}")
    given = getattr(network, "preprocessing", {})
    try:
        return _Loaded(network, Preprocessing(**given), "")
    except TypeError as error:
        known = ", ".join(Preprocessing._fields)
        raise UsageError(f"python:{name}: its attribute `preprocessing` is a dict of {known}") from error


_FAMILIES: dict[str, Callable[[str], _Loaded]] = {"torchvision": _torchvision, "timm": _timm, "python": _own}


def _load(name: str) -> _Loaded:
    family, _, rest = name.partition(":")
    return _FAMILIES[family](rest)


@cache
def preprocessing_of(name: str) -> Preprocessing:
    """Return what a network's images have gone through.

    Args:
        name: as in the module's text.

    Raises:
        UsageError: there is no such network, or its package is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        return _load(name).preprocessing


def form_of(name: str) -> ImageForm:
    """Return the form of a network's images.

    Raises:
        UsageError: as :func:`preprocessing_of`.
    """
    preprocessing = preprocessing_of(name)
    return ImageForm(preprocessing.side, preprocessing.interpolation)


@cache
def feature_dimension(name: str) -> int:
    """Return D of a network's features (B, D).

    Raises:
        UsageError: there is no such network, or it returns no features.
    """
    with torch.random.fork_rng(devices=[]):
        loaded = _load(name)
    crop = loaded.preprocessing.crop
    network = loaded.network.eval()
    with torch.no_grad():
        features = network(torch.zeros(1, 3, crop, crop))
    if not isinstance(features, Tensor) or features.flatten(1).shape[0] != 1:
        raise UsageError(f"network {name} must return a tensor (B, D), got {type(features).__name__}")
    return features.flatten(1).shape[1]


def build_backbone(sample_shape: tuple[int, ...], width: int, name: str) -> tuple[nn.Module, int]:
    """Return a network without its classifier, and D of its features; with the weights it begins with.

    Args:
        sample_shape: (3, side, side).
        width: 0; its widths are its own.
        name: as in the module's text.

    Raises:
        UsageError: there is no such network, or its package is not installed.
        ValueError: another width, or images of other than one or three channels.
    """
    if sample_shape[0] not in (1, 3):
        raise ValueError(f"{name} takes images of 1 or 3 channels, these have {sample_shape[0]}")
    if width:
        raise ValueError(f"`width` is of our own networks, {name} has its own; leave it out")
    dimension = feature_dimension(name)
    loaded = _load(name)
    return Backbone(loaded.network, loaded.preprocessing, sample_shape[-1]), dimension


@cache
def classifier_of(name: str) -> str:
    """Return the name of a network's classifier in published files, or ""."""
    with torch.random.fork_rng(devices=[]):
        return _load(name).classifier


def initial_state(name: str) -> dict[str, Tensor]:
    """Return the weights that a network begins with, the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dict(_load(name).network.state_dict())
