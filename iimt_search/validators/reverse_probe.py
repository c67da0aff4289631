"""Reverse validation by a linear probe on frozen embeddings."""

import numpy as np
from sklearn.linear_model import RidgeClassifier
from torch import Tensor

from iimt_search.validators.contract import Predictions, all_finite


def reverse_probe(
    target_embeddings: Tensor, pseudo_labels: Tensor, source_embeddings: Tensor, source_labels: Tensor
) -> float:
    """Fit a ridge classifier to the target's pseudo-labels, and return its accuracy on the source.

    Args:
        target_embeddings: float (N_t, D).
        pseudo_labels: int64 (N_t,), the model's own target predictions.
        source_embeddings: float (N_s, D), held-out samples.
        source_labels: int64 (N_s,).

    Returns:
        Accuracy in [0, 1]. Where all pseudo-labels are one class there is nothing to fit: the share
        of that class on the source, which is what a constant classifier gets. NaN where an
        embedding is not finite.

    >>> import torch
    >>> f = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(4, 1)
    >>> labels = torch.tensor([0, 1]).repeat(4)
    >>> reverse_probe(f, labels, f, labels), reverse_probe(f, labels, f, 1 - labels)
    (1.0, 0.0)
    """
    f_t, f_s = (f.double().cpu().numpy() for f in (target_embeddings, source_embeddings))
    labels, truth = pseudo_labels.cpu().numpy(), source_labels.cpu().numpy()
    if not (np.isfinite(f_t).all() and np.isfinite(f_s).all()):
        return float("nan")
    if (labels == labels[0]).all():
        return float((truth == labels[0]).mean())
    # Each embedding dimension is scaled, so that the ridge means the same for every network.
    centre, scale = f_t.mean(axis=0), f_t.std(axis=0) + 1e-6
    probe = RidgeClassifier(alpha=1.0).fit((f_t - centre) / scale, labels)
    return float((probe.predict((f_s - centre) / scale) == truth).mean())


def score(predictions: Predictions) -> float:
    """Score a model by the reverse probe between its target and source validation embeddings."""
    if not all_finite(predictions.target_logits):
        return float("nan")
    return reverse_probe(
        predictions.target_embeddings,
        predictions.target_logits.argmax(dim=-1),
        predictions.source_embeddings,
        predictions.source_labels,
    )
