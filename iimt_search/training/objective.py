"""One IIMT step's loss terms, from one batch of each domain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from iimt_search.iimt import losses
from iimt_search.iimt.mixup import mix, mixing_coefficients
from iimt_search.iimt.reversal import reverse_gradient
from iimt_search.iimt.schedule import dann_ramp, linear
from iimt_search.iimt.virtual_labels import virtual_labels
from iimt_search.models.batch_norm import running_statistics_held
from iimt_search.models.network import Discriminator, Model
from iimt_search.settings import TrainSettings

TERMS = ("source", "inter_domain", "adversarial", "consistency", "intra_source", "intra_target")


@dataclass(frozen=True)
class Batch:
    """One step's samples.

    Attributes:
        source: normalised float (B, ...).
        labels: one-hot float (B, C).
        target: normalised float (B, ...).
    """

    source: Tensor
    labels: Tensor
    target: Tensor


def term_weights(settings: TrainSettings, progress: float) -> dict[str, float]:
    """Return every term's weight at ``progress`` (step / steps).

    w_t rises linearly to ``lambda_max`` (paper); with ``settings.ramp`` the consistency weight rises
    as the reversal does, because at step 0 both collapse the embedding (ours).
    """
    ramp = dann_ramp(progress) if settings.ramp else 1.0
    return {
        "source": settings.w_source,
        "inter_domain": settings.w_q,
        "adversarial": settings.w_d,
        "consistency": settings.w_z * ramp,
        "intra_source": settings.w_s,
        "intra_target": linear(progress, settings.lambda_max),
    }


def active_terms(settings: TrainSettings) -> frozenset[str]:
    """Return the terms that have a weight above 0 at some step; the others are not computed."""
    return frozenset(name for name, weight in term_weights(settings, 1.0).items() if weight > 0)


class _Mixing:
    """Draws one step's mixing coefficients and permutations."""

    def __init__(self, alpha: float, size: int, rng: np.random.Generator) -> None:
        self.alpha, self.size, self.rng = alpha, size, rng

    def coefficients(self, device: torch.device) -> Tensor:
        return mixing_coefficients(self.alpha, self.size, self.rng).to(device)

    def with_itself(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch and its labels with a permutation of themselves."""
        coefficients = self.coefficients(x.device)
        order = torch.from_numpy(self.rng.permutation(self.size)).to(x.device)
        return mix(x, x[order], coefficients), mix(labels, labels[order], coefficients)


def _virtual_labels(
    model: Model, x: Tensor, settings: TrainSettings, augment: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return virtual labels (B, C) of target samples (B, ...).

    BatchNorm uses the statistics of these target samples alone (ours). With the running statistics,
    which follow source and mixtures, the first virtual labels are nearly constant and training
    collapses to one class: syn-digits->digits ended at 10 % so, and at 70 % with the target's own.
    """
    augmented = augment(x.repeat(settings.k, *[1] * (x.dim() - 1)))
    with torch.no_grad(), running_statistics_held(model):
        logits = model.classify(model.embed(augmented)).to(model.shift.dtype)
    return virtual_labels(logits.reshape(settings.k, len(x), -1), settings.temperature)


def _embed_groups(model: Model, groups: Mapping[str, Tensor], joint: bool) -> dict[str, Tensor]:
    """Embed every group of samples, in one BatchNorm pass over all or in one pass each."""
    if not joint:
        return {name: model.embed(x) for name, x in groups.items()}
    sizes = [len(x) for x in groups.values()]
    parts = model.embed(torch.cat(list(groups.values()))).split(sizes)
    return dict(zip(groups, parts, strict=True))


@dataclass(frozen=True)
class _Mixtures:
    """One step's groups of samples and their labels.

    Groups are ``s`` source, ``t`` target, ``st`` source-dominant, ``ts`` target-dominant, ``ss`` and
    ``tt`` intra-domain mixtures; only those that an active term needs are there.
    """

    samples: dict[str, Tensor]
    labels: dict[str, Tensor]
    between: Tensor


def _mixtures(
    x_s: Tensor, x_t: Tensor, y_s: Tensor, q_t: Tensor | None, active: frozenset[str], mixing: _Mixing
) -> _Mixtures:
    """Make the groups that the active terms need. ``q_t`` is None where none needs virtual labels."""
    samples, labels = {}, {"s": y_s}
    if active & {"source", "adversarial", "consistency"}:
        samples["s"] = x_s
    if active & {"adversarial", "consistency"}:
        samples["t"] = x_t
    between = mixing.coefficients(x_s.device)
    if active & {"inter_domain", "consistency"}:
        samples["st"] = mix(x_s, x_t, between)
    if "inter_domain" in active and q_t is not None:
        samples["ts"] = mix(x_t, x_s, between)
        labels["st"], labels["ts"] = mix(y_s, q_t, between), mix(q_t, y_s, between)
    if "intra_source" in active:
        samples["ss"], labels["ss"] = mixing.with_itself(x_s, y_s)
    if "intra_target" in active and q_t is not None:
        samples["tt"], labels["tt"] = mixing.with_itself(x_t, q_t)
    return _Mixtures(samples, labels, between)


def loss_terms(
    model: Model,
    discriminator: Discriminator,
    batch: Batch,
    settings: TrainSettings,
    progress: float,
    augment: Callable[[Tensor], Tensor],
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """Compute the unweighted terms of :func:`active_terms`, each a scalar.

    Args:
        model: h = g ∘ f, in training mode.
        discriminator: D.
        batch: the step's samples.
        settings: the configuration.
        progress: step / steps, in [0, 1].
        augment: the task's stochastic augmentation of a batch.
        rng: draws mixing coefficients and permutations.
    """
    active = active_terms(settings)
    x_s, x_t = batch.source, batch.target
    q_t = None
    if active & {"inter_domain", "intra_target"}:
        q_t = _virtual_labels(model, x_t, settings, augment)
    if settings.augment_inputs:
        x_s, x_t = augment(x_s), augment(x_t)
    mixing = _Mixing(settings.alpha, len(x_s), rng)
    mixtures = _mixtures(x_s, x_t, batch.labels, q_t, active, mixing)
    groups = _embed_groups(model, mixtures.samples, settings.joint_batch_norm)
    # Products may be bfloat16; losses are not.
    z = {name: embedded.to(model.shift.dtype) for name, embedded in groups.items()}
    labels = mixtures.labels

    def logits(group: str) -> Tensor:
        return model.classify(z[group]).to(model.shift.dtype)

    def source() -> Tensor:
        return losses.soft_cross_entropy(labels["s"], logits("s"))

    def inter_domain() -> Tensor:
        return losses.inter_domain(labels["st"], logits("st"), labels["ts"], logits("ts"))

    def adversarial() -> Tensor:
        strength = settings.reversal * (dann_ramp(progress) if settings.ramp else 1.0)
        of_source, of_target = (
            discriminator(reverse_gradient(z[name], strength)).to(model.shift.dtype) for name in ("s", "t")
        )
        return losses.domain_adversarial(of_source, of_target)

    def consistency() -> Tensor:
        return losses.consistency(mix(z["s"], z["t"], mixtures.between), z["st"])

    def intra_source() -> Tensor:
        return losses.soft_cross_entropy(labels["ss"], logits("ss"))

    def intra_target() -> Tensor:
        return losses.probability_error(labels["tt"], logits("tt"))

    terms = (source, inter_domain, adversarial, consistency, intra_source, intra_target)
    return {term.__name__: term() for term in terms if term.__name__ in active}
