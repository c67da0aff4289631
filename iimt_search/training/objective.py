"""One IIMT step's loss terms, from one batch of each domain and what was drawn for it.

Nothing here draws a random number (dropout and noise layers do): the same inputs give the same terms, and
``torch.vmap`` may compute many members' at once.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from iimt_search.iimt.losses import Step
from iimt_search.iimt.mixup import mix
from iimt_search.iimt.reversal import reverse_gradient
from iimt_search.iimt.schedule import dann_ramp, linear, stepwise
from iimt_search.iimt.virtual_labels import mean_prediction
from iimt_search.methods import TERMS, Group, Term, active_groups, active_terms
from iimt_search.models.network import Discriminator, Model, of_source, running_statistics_held
from iimt_search.registry import load_object
from iimt_search.settings import TrainSettings


class Batch(NamedTuple):
    """One step's samples and what was drawn to mix them.

    Attributes:
        source: normalised, augmented where inputs are, float (B, ...).
        labels: one-hot float (B, C).
        target: as ``source``.
        coefficients: λ' between the domains, within the source and within the target, float (3, B).
        orders: with which sample each is mixed, within the source and within the target, int64 (2, B).
    """

    source: Tensor
    labels: Tensor
    target: Tensor
    coefficients: Tensor
    orders: Tensor


def term_weights(settings: TrainSettings, progress: float) -> dict[str, float]:
    """Return every term's weight at ``progress`` (step / steps).

    w_t rises linearly to ``lambda_max`` (paper), or to an earlier value of it while that holds; with
    ``settings.ramp`` the consistency weight rises as the reversal does, because at step 0 both collapse the
    embedding (ours).
    """
    ramp = dann_ramp(progress) if settings.ramp else 1.0

    def weight(term: Term) -> float:
        value: float = getattr(settings, term.weight)
        match term.schedule:
            case "constant":
                return value
            case "ramped":
                return value * ramp
            case "linear":
                return linear(progress, stepwise(progress, settings.lambda_schedule, value))

    return {name: weight(term) for name, term in TERMS.items()}


def reversal_strength(settings: TrainSettings, progress: float) -> float:
    """Return the strength of the gradient reversal at ``progress`` (step / steps)."""
    return settings.reversal * (dann_ramp(progress) if settings.ramp else 1.0)


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
    """Embed every group of samples, in one BatchNorm pass over all or in one pass each.

    Where each domain has its own statistics, a mixture counts to the domain whose share is larger.
    """
    if model.architecture.by_domain:
        embedded = {}
        for name, x in groups.items():
            with of_source(model, name[0] == "s"):
                embedded[name] = model.embed(x)
        return embedded
    if not joint:
        return {name: model.embed(x) for name, x in groups.items()}
    sizes = [len(x) for x in groups.values()]
    parts = model.embed(torch.cat(list(groups.values()))).split(sizes)
    return dict(zip(groups, parts, strict=True))


def _in_groups(
    source: Tensor, target: Tensor | None, batch: Batch, groups: Iterable[Group]
) -> dict[str, Tensor]:
    """Return each group's samples, or labels; no labels of what the target is in where its own are None."""
    of_domain = {"s": source, "t": target}
    rows: dict[str, Tensor] = {}
    for group in groups:
        dominant, other = of_domain[group[0]], of_domain[group[-1]]
        if dominant is None or other is None:
            continue
        if len(group) == 1:
            rows[group] = dominant
        elif group[0] == group[1]:  # within a domain
            at = "st".index(group[0])
            rows[group] = mix(dominant, other[batch.orders[at]], batch.coefficients[1 + at])
        else:
            rows[group] = mix(dominant, other, batch.coefficients[0])
    return rows


def loss_terms(
    model: Model,
    discriminator: Discriminator,
    batch: Batch,
    q_t: Tensor | None,
    strength: float | Tensor,
    settings: TrainSettings,
) -> dict[str, Tensor]:
    """Compute the unweighted active terms, each a scalar, in the order of :data:`~iimt_search.methods.TERMS`.

    Args:
        model: h = g ∘ f, in training mode.
        discriminator: D.
        batch: the step's samples and mixing coefficients.
        q_t: virtual labels (B, C) of ``batch.target``; None where no active term needs them.
        strength: of the gradient reversal.
        settings: tells which terms are active and how BatchNorm groups samples; nothing else of it is used.
    """
    dtype, groups = model.shift.dtype, active_groups(settings)
    samples = _in_groups(batch.source, batch.target, batch, groups)
    # Products may be bfloat16; losses are not.
    step = Step(
        embeddings={
            name: z.to(dtype) for name, z in _embed_groups(model, samples, settings.joint_batch_norm).items()
        },
        labels=_in_groups(batch.labels, q_t, batch, groups),
        between=batch.coefficients[0],
        classify=lambda z: model.classify(z).to(dtype),
        discriminate=lambda z: discriminator(reverse_gradient(z, strength)).to(dtype),
    )
    return {name: load_object(TERMS[name].loss)(step) for name in active_terms(settings)}
