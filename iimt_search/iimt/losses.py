"""The loss terms of IIMT, unweighted (Yan et al. 2020, sections 3.1 to 3.4).

Every term is a mean over the batch and returns a scalar. Logits are float (B, C), labels are
distributions float (B, C), embeddings are float (B, D).
"""

import torch
from torch import Tensor
from torch.nn import functional


def soft_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Return (1/B) Σ_i H(q_i, softmax(logits_i)), in nats."""
    return -(labels * functional.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def probability_error(labels: Tensor, logits: Tensor) -> Tensor:
    """Return (1/B) Σ_i ‖q_i − softmax(logits_i)‖², in [0, 2].

    Used where a label is virtual: bounded, so a wrong virtual label costs less than by cross-entropy.
    """
    return (labels - torch.softmax(logits, dim=-1)).square().sum(dim=-1).mean()


def inter_domain(labels_st: Tensor, logits_st: Tensor, labels_ts: Tensor, logits_ts: Tensor) -> Tensor:
    """Return L_q: cross-entropy on source-dominant plus squared error on target-dominant mixtures."""
    return soft_cross_entropy(labels_st, logits_st) + probability_error(labels_ts, logits_ts)


def consistency(mixed_embeddings: Tensor, embeddings_of_mixed: Tensor) -> Tensor:
    """Return L_z = (1/(B·D)) Σ_i ‖z_i − f(x_i^st)‖².

    Divided by the embedding's dimension D (ours): the paper's sum grows with D, and a weight of 1
    then pulls every embedding to one point within 200 steps.

    Args:
        mixed_embeddings: z = λ' f(x^s) + (1 − λ') f(x^t).
        embeddings_of_mixed: f(x^st) of the source-dominant mixtures, same shape.
    """
    return (mixed_embeddings - embeddings_of_mixed).square().mean()


def domain_adversarial(source_logits: Tensor, target_logits: Tensor) -> Tensor:
    """Return −(1/B) Σ_i [ln D(f(x_i^s)) + ln(1 − D(f(x_i^t)))], D the discriminator's sigmoid.

    The negative of the paper's L_d: the discriminator minimises it, and a gradient reversal between
    encoder and discriminator makes the encoder maximise it.

    Args:
        source_logits: the discriminator's logits for source embeddings, float (B,).
        target_logits: the same for target embeddings.
    """
    return functional.softplus(-source_logits).mean() + functional.softplus(target_logits).mean()
