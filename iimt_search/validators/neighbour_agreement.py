"""Agreement of the target predictions with the nearest labelled source samples (ours)."""

import torch
from torch import Tensor

from iimt_search.validators.canonical_order import canonical_order
from iimt_search.validators.contract import Predictions, all_finite

NEIGHBOURS = 5
MAX_SAMPLES = 5000
CHUNK = 512
# Similarities and votes that differ by less are equal: rounding depends on the order of the samples.
TOLERANCE = 1e-9


def neighbour_agreement(
    source_embeddings: Tensor, source_labels: Tensor, target_embeddings: Tensor, predicted: Tensor
) -> float:
    """Return how often the five nearest source samples outvote every class but the predicted one.

    Args:
        source_embeddings: float (N_s, D), held-out samples; each is scaled to length 1 first, so that
            near means a small angle.
        source_labels: int64 (N_s,).
        target_embeddings: float (N_t, D). Of more than 5 000, evenly spaced ones in canonical order
            are used.
        predicted: int64 (N_t,), the model's own predictions; −1 (none) agrees with no vote.

    Returns:
        A share in [0, 1]. Source samples as near as the fifth vote too. Where k classes have the most
        votes, and the predicted one is among them, the sample counts 1/k. So where all embeddings are
        the same, every source sample votes: the share of targets that are predicted as the commonest
        source class. NaN where an embedding is not finite, and where a domain has no samples.

    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> neighbour_agreement(f.repeat(5, 1), torch.tensor([0, 1]).repeat(5), f, torch.tensor([0, 1]))
    1.0
    """
    if min(len(source_embeddings), len(target_embeddings)) == 0:
        return float("nan")
    if not all_finite(source_embeddings, target_embeddings):
        return float("nan")
    chosen = torch.from_numpy(canonical_order(target_embeddings.double().cpu().numpy(), MAX_SAMPLES))
    f_t, guess = target_embeddings.cpu()[chosen], predicted.cpu()[chosen]
    f_s, labels = source_embeddings.cpu(), source_labels.cpu()
    f_s, f_t = (torch.nn.functional.normalize(f.double(), dim=-1) for f in (f_s, f_t))
    ballots = torch.nn.functional.one_hot(labels, int(torch.cat((labels, guess)).max()) + 1).double()
    total = 0.0
    for start in range(0, len(f_t), CHUNK):
        similarity = f_t[start : start + CHUNK] @ f_s.T
        fifth = similarity.topk(min(NEIGHBOURS, len(f_s))).values[:, -1:]
        votes = (similarity >= fifth - TOLERANCE).double() @ ballots
        winners = votes >= votes.max(dim=-1, keepdim=True).values - TOLERANCE
        own = guess[start : start + CHUNK, None]
        agrees = (winners.gather(1, own.clamp_min(0)) & (own >= 0))[:, 0]
        total += float((agrees.double() / winners.sum(dim=-1)).sum())
    return total / len(f_t)


def score(predictions: Predictions) -> float:
    """Score a model by how its target predictions agree with their source neighbours' labels."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return neighbour_agreement(
        predictions.source_embeddings,
        predictions.source_labels,
        predictions.target_embeddings,
        predictions.target_classes,
    )
