"""Reverse validation by a linear probe on frozen embeddings."""

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite
from iimt_search.validators.source_accuracy import source_accuracy

# What the probe finds for a class is rounded to so many: how it rounds depends on the order of the classes.
DECIMALS = 9


def reverse_probe(
    target_embeddings: Tensor, pseudo_labels: Tensor, source_embeddings: Tensor, source_labels: Tensor
) -> float:
    """Fit a ridge classifier to the target's pseudo-labels, and return its accuracy on the source.

    Args:
        target_embeddings: float (N_t, D).
        pseudo_labels: int64 (N_t,), the model's own target predictions; samples with −1 (none) are
            left out.
        source_embeddings: float (N_s, D), held-out samples.
        source_labels: int64 (N_s,).

    Returns:
        Accuracy in [0, 1], as :mod:`iimt_search.validators.source_accuracy` computes it. Where all
        pseudo-labels are one class, the share of that class on the source; 0 where there is none to
        learn from. NaN where an embedding is not finite, and where a domain has no samples.

    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4, 1)
    >>> labels = torch.tensor([0, 1]).repeat(4)
    >>> reverse_probe(f, labels, f, labels), reverse_probe(f, labels, f, 1 - labels)
    (1.0, 0.0)
    """
    if min(len(target_embeddings), len(source_embeddings)) == 0:
        return float("nan")
    if not all_finite(target_embeddings, source_embeddings):
        return float("nan")
    labels = pseudo_labels.cpu().numpy()
    f_t, f_s = (f.double().cpu().numpy() for f in (target_embeddings, source_embeddings))
    f_t, labels = f_t[labels >= 0], labels[labels >= 0]
    if len(labels) == 0:
        return 0.0
    # Each embedding dimension is scaled, so that the ridge means the same for every network.
    centre, scale = f_t.mean(axis=0), f_t.std(axis=0) + 1e-6
    classes = 1 + max(int(labels.max()), int(source_labels.max()))
    probe = Ridge(alpha=1.0).fit((f_t - centre) / scale, np.eye(classes)[labels])
    found = probe.predict((f_s - centre) / scale).reshape(-1, classes)
    return source_accuracy(torch.from_numpy(found.round(DECIMALS)), source_labels.cpu())


def score(predictions: Predictions) -> float:
    """Score a model by the reverse probe between its target and source validation embeddings."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return reverse_probe(
        predictions.target_embeddings,
        predictions.target_classes,
        predictions.source_embeddings,
        predictions.source_labels,
    )
