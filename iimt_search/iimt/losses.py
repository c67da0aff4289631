"""The loss terms of IIMT, unweighted (Yan et al. 2020, sections 3.1 to 3.4).

Every term is a mean over the batch and returns a scalar; its weight and what it needs stand in
:data:`iimt_search.methods.TERMS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from iimt_search.iimt.mixup import mix


@dataclass(frozen=True)
class Step:
    """What a training step has computed that its terms need, by group (:data:`iimt_search.methods.GROUPS`).

    Attributes:
        embeddings: float (B, D).
        labels: distributions, float (B, C): one-hot, virtual, or mixtures of them. The target's groups, and
            those of both domains, have some only where an active term needs virtual labels.
        between: mixing coefficients λ' of the mixtures of both domains, float (B,).
        classify: embeddings → logits (B, C).
        discriminate: embeddings → the discriminator's logits (B,), positive for source; their gradient comes
            back reversed.
    """

    embeddings: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    between: Tensor
    classify: Callable[[Tensor], Tensor]
    discriminate: Callable[[Tensor], Tensor]

    def logits(self, group: str) -> Tensor:
        """Return the classifier's logits (B, C) of a group. A dropout layer draws anew at each call."""
        return self.classify(self.embeddings[group])

    def domain_logits(self, group: str) -> Tensor:
        """Return the discriminator's logits (B,) of a group."""
        return self.discriminate(self.embeddings[group])


def soft_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Return (1/B) Σ_i H(q_i, softmax(logits_i)), in nats; labels and logits float (B, C)."""
    return -(labels * functional.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def probability_error(labels: Tensor, logits: Tensor) -> Tensor:
    """Return (1/B) Σ_i ‖q_i − softmax(logits_i)‖², in [0, 2].

    Used where a label is virtual: bounded, so a wrong virtual label costs less than by cross-entropy.
    """
    return (labels - torch.softmax(logits, dim=-1)).square().sum(dim=-1).mean()


def source(step: Step) -> Tensor:
    """Return L_0: cross-entropy on the source (ours)."""
    return soft_cross_entropy(step.labels["s"], step.logits("s"))


def inter_domain(step: Step) -> Tensor:
    """Return L_q: cross-entropy on source-dominant plus squared error on target-dominant mixtures."""
    source_dominant = soft_cross_entropy(step.labels["st"], step.logits("st"))
    return source_dominant + probability_error(step.labels["ts"], step.logits("ts"))


def adversarial(step: Step) -> Tensor:
    """Return −(1/B) Σ_i [ln D(f(x_i^s)) + ln(1 − D(f(x_i^t)))], D the discriminator's sigmoid.

    The negative of the paper's L_d: the discriminator minimises it, and a gradient reversal between
    encoder and discriminator makes the encoder maximise it.
    """
    of_source, of_target = step.domain_logits("s"), step.domain_logits("t")
    return functional.softplus(-of_source).mean() + functional.softplus(of_target).mean()


def consistency(step: Step) -> Tensor:
    """Return L_z = (1/(B·D)) Σ_i ‖z_i − f(x_i^st)‖², with z = λ' f(x^s) + (1 − λ') f(x^t).

    Divided by the embedding's dimension D (ours): the paper's sum grows with D, and a weight of 1
    then pulls every embedding to one point within 200 steps.
    """
    z = mix(step.embeddings["s"], step.embeddings["t"], step.between)
    return (z - step.embeddings["st"]).square().mean()


def intra_source(step: Step) -> Tensor:
    """Return L_s: cross-entropy on mixtures within the source."""
    return soft_cross_entropy(step.labels["ss"], step.logits("ss"))


def intra_target(step: Step) -> Tensor:
    """Return L_t: squared error on mixtures within the target."""
    return probability_error(step.labels["tt"], step.logits("tt"))
