"""One IIMT step's loss terms, from one batch of each domain and what was drawn for it.

Nothing here draws a random number (dropout and noise layers do): the same inputs give the same terms, and
``torch.vmap`` may compute many members' at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from iimt_search.iimt import losses
from iimt_search.iimt.mixup import mix
from iimt_search.iimt.reversal import reverse_gradient
from iimt_search.iimt.schedule import dann_ramp, linear, stepwise
from iimt_search.iimt.virtual_labels import mean_prediction
from iimt_search.models.batch_norm import running_statistics_held
from iimt_search.models.network import Discriminator, Model
from iimt_search.settings import TrainSettings

TERMS = ("source", "inter_domain", "adversarial", "consistency", "intra_source", "intra_target")


class Batch(NamedTuple):
    """One step's samples and what was drawn to mix them.

    Attributes:
        source: normalised, augmented where inputs are, float (B, ...).
        labels: one-hot float (B, C).
        target: as ``source``.
        between: mixing coefficients λ' of the inter-domain mixtures, float (B,).
        within_source: λ' of the source's intra-domain mixtures, float (B,).
        order_source: with which sample each one is mixed, int64 (B,).
        within_target: as ``within_source``.
        order_target: as ``order_source``.
    """

    source: Tensor
    labels: Tensor
    target: Tensor
    between: Tensor
    within_source: Tensor
    order_source: Tensor
    within_target: Tensor
    order_target: Tensor


def term_weights(settings: TrainSettings, progress: float) -> dict[str, float]:
    """Return every term's weight at ``progress`` (step / steps).

    w_t rises linearly to ``lambda_max`` (paper), or to an earlier value of it while that holds; with
    ``settings.ramp`` the consistency weight rises as the reversal does, because at step 0 both collapse the
    embedding (ours).
    """
    ramp = dann_ramp(progress) if settings.ramp else 1.0
    return {
        "source": settings.w_source,
        "inter_domain": settings.w_q,
        "adversarial": settings.w_d,
        "consistency": settings.w_z * ramp,
        "intra_source": settings.w_s,
        "intra_target": linear(progress, stepwise(progress, settings.lambda_schedule, settings.lambda_max)),
    }


def active_terms(settings: TrainSettings) -> frozenset[str]:
    """Return the terms that have a weight above 0 at some step; the others are not computed."""
    weights = term_weights(settings, 1.0)
    weights["intra_target"] = max(settings.lambda_max, *(value for _, value in settings.lambda_schedule), 0.0)
    return frozenset(name for name, weight in weights.items() if weight > 0)


def reversal_strength(settings: TrainSettings, progress: float) -> float:
    """Return the strength of the gradient reversal at ``progress`` (step / steps)."""
    return settings.reversal * (dann_ramp(progress) if settings.ramp else 1.0)


def needs_virtual_labels(settings: TrainSettings) -> bool:
    """Return whether an active term needs virtual labels."""
    return bool(active_terms(settings) & {"inter_domain", "intra_target"})


def predict_augmented(model: Model, augmented: Tensor, k: int) -> Tensor:
    """Return predictions (B, C) of target samples, averaged over their K augmentations.

    BatchNorm uses the statistics of these target samples alone (ours). With the running statistics,
    which follow source and mixtures, the first virtual labels are nearly constant and training
    collapses to one class: syn-digits->digits ended at 10 % so, and at 70 % with the target's own.

    Args:
        model: h, in training mode; its running statistics stay as they are.
        augmented: float (K · B, ...): the first augmentation of each sample, then the second, ….
        k: K.
    """
    with torch.no_grad(), running_statistics_held(model):
        logits = model.classify(model.embed(augmented)).to(model.shift.dtype)
    return mean_prediction(logits.reshape(k, len(augmented) // k, -1))


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


def _mixtures(batch: Batch, q_t: Tensor | None, active: frozenset[str]) -> _Mixtures:
    """Make the groups that the active terms need. ``q_t`` is None where none needs virtual labels."""
    x_s, x_t, y_s, between = batch.source, batch.target, batch.labels, batch.between
    samples, labels = {}, {"s": y_s}
    if active & {"source", "adversarial", "consistency"}:
        samples["s"] = x_s
    if active & {"adversarial", "consistency"}:
        samples["t"] = x_t
    if active & {"inter_domain", "consistency"}:
        samples["st"] = mix(x_s, x_t, between)
    if "inter_domain" in active and q_t is not None:
        samples["ts"] = mix(x_t, x_s, between)
        labels["st"], labels["ts"] = mix(y_s, q_t, between), mix(q_t, y_s, between)
    if "intra_source" in active:
        order, within = batch.order_source, batch.within_source
        samples["ss"], labels["ss"] = mix(x_s, x_s[order], within), mix(y_s, y_s[order], within)
    if "intra_target" in active and q_t is not None:
        order, within = batch.order_target, batch.within_target
        samples["tt"], labels["tt"] = mix(x_t, x_t[order], within), mix(q_t, q_t[order], within)
    return _Mixtures(samples, labels)


def loss_terms(
    model: Model,
    discriminator: Discriminator,
    batch: Batch,
    q_t: Tensor | None,
    strength: float | Tensor,
    settings: TrainSettings,
) -> dict[str, Tensor]:
    """Compute the unweighted terms of :func:`active_terms`, each a scalar, in the order of :data:`TERMS`.

    Args:
        model: h = g ∘ f, in training mode.
        discriminator: D.
        batch: the step's samples and mixing coefficients.
        q_t: virtual labels (B, C) of ``batch.target``; None where no active term needs them.
        strength: of the gradient reversal.
        settings: tells which terms are active and how BatchNorm groups samples; nothing else of it is used.
    """
    active = active_terms(settings)
    mixtures = _mixtures(batch, q_t, active)
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
        of_source, of_target = (
            discriminator(reverse_gradient(z[name], strength)).to(model.shift.dtype) for name in ("s", "t")
        )
        return losses.domain_adversarial(of_source, of_target)

    def consistency() -> Tensor:
        return losses.consistency(mix(z["s"], z["t"], batch.between), z["st"])

    def intra_source() -> Tensor:
        return losses.soft_cross_entropy(labels["ss"], logits("ss"))

    def intra_target() -> Tensor:
        return losses.probability_error(labels["tt"], logits("tt"))

    terms = (source, inter_domain, adversarial, consistency, intra_source, intra_target)
    return {term.__name__: term() for term in terms if term.__name__ in active}
