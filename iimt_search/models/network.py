"""Classifier, discriminator, and the model h = g ∘ f made of an encoder and the classifier."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from iimt_search.kinds import DEFAULT_ENCODERS, ENCODERS, is_pretrained
from iimt_search.models.device import each_on_cores
from iimt_search.models.encoders import dense
from iimt_search.models.pretrained import AT_ONCE, Backbone, DomainNorm, normalise_by_domain


@contextmanager
def running_statistics_held(model: nn.Module) -> Iterator[None]:
    """Let forward passes in training mode use batch statistics but not change the running ones."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    tracked = [layer.track_running_stats for layer in layers]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, was_tracked in zip(layers, tracked, strict=True):
            layer.track_running_stats = was_tracked


class Architecture(NamedTuple):
    """What it takes to build a model again.

    Attributes:
        network: the encoder's name in :data:`iimt_search.kinds.ENCODERS`, or ``auto``.
        kind: of the samples: ``image``, ``series`` or ``vector``; or ``features``, of a network's images.
        sample_shape: of one sample: (channels, H, W), (channels, length) or (features,); of features
            (views, features), the first view of which is the image as it is.
        classes: number of classes C.
        width: channels of the encoder's first stage; 0: the network's own.
        dropout: dropout on the embedding.
        bottleneck: units of a layer between a pretrained network and the classifier; 0: none.
        by_domain: whether a pretrained network has BatchNorm statistics for each domain.
    """

    network: str
    kind: str
    sample_shape: tuple[int, ...]
    classes: int
    width: int
    dropout: float
    bottleneck: int = 0
    by_domain: bool = False


def resolve_network(network: str, kind: str) -> str:
    """Return the encoder's name that ``network`` means for samples of ``kind``.

    Args:
        network: a name in :data:`iimt_search.kinds.ENCODERS`, or ``auto``.
        kind: ``image``, ``series`` or ``vector``.

    Raises:
        ValueError: there is no such kind or network, or the network takes samples of another kind.
    """
    if kind == "features" and is_pretrained(network):
        return network
    if kind not in DEFAULT_ENCODERS:
        raise ValueError(f"kind must be one of {', '.join(DEFAULT_ENCODERS)}, got {kind!r}")
    if network == "auto":
        return DEFAULT_ENCODERS[kind]
    if network not in ENCODERS:
        raise ValueError(f"network must be one of auto, {', '.join(ENCODERS)}, got {network!r}")
    if ENCODERS[network].kind != kind:
        fitting = ", ".join(name for name, entry in ENCODERS.items() if entry.kind == kind)
        raise ValueError(
            f"network {network!r} takes {ENCODERS[network].kind} samples, not {kind}; "
            f"networks for {kind}: auto, {fitting}"
        )
    return network


def _per_channel(name: str, values: Tensor | Sequence[float], sample_shape: tuple[int, ...]) -> Tensor:
    """Return float32 values, one a channel, in a shape that broadcasts over samples: (C, 1, …)."""
    per_channel = torch.as_tensor(values, dtype=torch.float32).detach().clone().reshape(-1)
    if len(per_channel) != sample_shape[0]:
        raise ValueError(f"{name} needs one value a channel: {sample_shape[0]}, got {len(per_channel)}")
    if not per_channel.isfinite().all():
        raise ValueError(f"{name} must be finite, got {per_channel.tolist()}")
    return per_channel.reshape(-1, *[1] * (len(sample_shape) - 1))


class _FirstView(nn.Module):
    """Features of several views (B, V, D) → of the first (B, D); those of one stay as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] if x.dim() == 3 else x


class Model(nn.Module):
    """h = g ∘ f: an encoder shared by both domains and a linear classifier of its embeddings.

    ``forward`` takes raw samples and returns logits (B, C): images uint8 (B, channels, H, W), or float of
    the same shape in [0, 255]; series float (B, channels, length) and vectors float (B, features), in
    whatever units the data has. Normalisation is part of the model, so that an exported one needs no other.

    Args:
        architecture: what to build. The attribute of this name has the network and width resolved.
        shift: subtracted first; one value a channel (a feature, for vectors). Default: 127.5 for images, or
            what a pretrained network was trained with; else 0.
        scale: then divided by; as ``shift``, above 0. Default: as ``shift``, else 1.

    Raises:
        ValueError: the network does not fit the kind, or ``shift`` or ``scale`` the channels.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        architecture: Architecture,
        shift: Tensor | Sequence[float] | None = None,
        scale: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        network = resolve_network(architecture.network, architecture.kind)
        # A list where the architecture was read from JSON.
        sample_shape = tuple(architecture.sample_shape)
        image, features = architecture.kind == "image", architecture.kind == "features"
        entry, channels = ENCODERS[network], 1 if features else sample_shape[0]
        width = architecture.width or entry.width
        self.architecture = architecture._replace(network=network, sample_shape=sample_shape, width=width)
        encoder: nn.Module
        encoder, self.embedding_dim = (
            (_FirstView(), sample_shape[-1]) if features else entry.build(sample_shape, width)
        )
        default_shift = [127.5 if image else 0.0] * channels
        default_scale = [127.5 if image else 1.0] * channels
        if isinstance(encoder, Backbone):
            preprocessing = encoder.preprocessing
            if architecture.by_domain:
                normalise_by_domain(encoder)
            default_shift, default_scale = (
                [255 * value for value in values] if channels == 3 else [255 * fmean(values)]
                for values in (preprocessing.mean, preprocessing.std)
            )
        shape = (1,) if features else sample_shape
        shift, scale = default_shift if shift is None else shift, default_scale if scale is None else scale
        self.register_buffer("shift", _per_channel("shift", shift, shape))
        self.register_buffer("scale", _per_channel("scale", scale, shape))
        if not (self.scale > 0).all():
            raise ValueError(f"scale must be above 0, got {self.scale.flatten().tolist()}")
        if is_pretrained(network):
            parts = OrderedDict[str, nn.Module](backbone=encoder)
            if architecture.bottleneck:
                parts["bottleneck"] = nn.Sequential(*dense(self.embedding_dim, architecture.bottleneck))
                self.embedding_dim = architecture.bottleneck
            encoder = nn.Sequential(parts)
        self.encoder = encoder
        self.dropout = nn.Dropout(architecture.dropout)
        self.classifier = nn.Linear(self.embedding_dim, architecture.classes)
        if image:
            self.to(memory_format=torch.channels_last)

    def normalise(self, x: Tensor) -> Tensor:
        """Return (x − shift) / scale in the model's own float type; images in channels-last order.

        By default images go from 0…255 to [−1, 1] and other samples stay as they are.
        """
        scaled = x.to(self.shift.dtype).sub(self.shift).div_(self.scale)
        return scaled.contiguous(memory_format=torch.channels_last) if scaled.dim() == 4 else scaled

    @property
    def backbone(self) -> Backbone | None:
        """The pretrained network of images, where there is one."""
        found = getattr(self.encoder, "backbone", None)
        return found if isinstance(found, Backbone) else None

    def embed(self, normalised: Tensor) -> Tensor:
        """Return embeddings (B, D) of normalised samples."""
        embeddings: Tensor = self.encoder(normalised)
        return embeddings

    def classify(self, embeddings: Tensor) -> Tensor:
        """Return logits (B, C) of embeddings (B, D)."""
        logits: Tensor = self.classifier(self.dropout(embeddings))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C) of raw samples."""
        return self.classify(self.embed(self.normalise(x)))


def batches_for(model: Model, size: int) -> tuple[int, Callable[..., Iterator[Any]]]:
    """Return how many samples a model predicts at once, and what gives a function of each batch in order.

    Args:
        model: in evaluation mode.
        size: for networks of our own. A pretrained one on a processor takes few, on every core.
    """
    if model.backbone is None or model.shift.device.type != "cpu":
        return size, map
    return AT_ONCE, each_on_cores


@contextmanager
def of_source(model: Model, source: bool = True) -> Iterator[None]:
    """Let a model with statistics for each domain use the source's; those of the target else."""
    layers = [layer for layer in model.modules() if isinstance(layer, DomainNorm)]
    for layer in layers:
        layer.of_source = source
    try:
        yield
    finally:
        for layer in layers:
            layer.of_source = False


def _check_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Check that weights are those of an architecture, whose numbers may ask for more memory than there is.

    Raises:
        ValueError: they are not.
    """
    if is_pretrained(architecture.network):
        # Its sizes are its code's; those of the heads, and the dimension of features, come from a file.
        heads = {
            "classifier.weight": architecture.classes,
            "encoder.bottleneck.0.weight": architecture.bottleneck,
        }
        for name, rows in heads.items():
            there = tuple(weights[name].shape) if name in weights else ()
            known = there[1:] if architecture.kind == "image" else (architecture.sample_shape[-1],)
            wide = known if name != "classifier.weight" or not architecture.bottleneck else there[1:]
            if rows and there != (rows, *wide):
                raise ValueError(
                    f"weight {name} is {there or 'missing'}, the architecture has {(rows, *wide)}"
                )
        return
    shape, entry = tuple(architecture.sample_shape), ENCODERS[resolve_network(*architecture[:2])]
    with torch.device("meta"):  # shapes alone
        encoder, dimension = entry.build(shape, architecture.width or entry.width)
        parts = {"encoder": encoder, "classifier": nn.Linear(dimension, architecture.classes)}
    wanted = {f"{n}.{key}": w.shape for n, part in parts.items() for key, w in part.state_dict().items()}
    wanted |= dict.fromkeys(("shift", "scale"), torch.Size([shape[0], *[1] * (len(shape) - 1)]))
    for name, size in wanted.items():
        if name not in weights or weights[name].shape != size or weights[name].is_complex():
            found = f"{tuple(weights[name].shape)}" if name in weights else "missing"
            raise ValueError(f"weight {name} is {found}, the architecture has {tuple(size)}")


def trained_model(architecture: Architecture, weights: Mapping[str, Tensor]) -> Model:
    """Return a model with weights that were read from a file.

    Raises:
        ValueError: the weights are not the architecture's.
    """
    _check_weights(architecture, weights)
    model = Model(architecture)
    model.load_state_dict(weights)
    return model


class Discriminator(nn.Module):
    """Domain discriminator: embeddings (B, D) → logits (B,), positive for source."""

    def __init__(self, embedding_dim: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(embedding_dim, width), nn.LeakyReLU(0.1, inplace=True), nn.Linear(width, 1)
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return one logit for each embedding."""
        logits: Tensor = self.layers(embeddings).squeeze(1)
        return logits
