"""Predictions in evaluation mode, and the pairs of target samples that are mixed for MixVal."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iimt_search.models.network import Model, batches_for
from iimt_search.training.batches import Samples, evenly_spaced

EVALUATION_BATCH = 512


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, without gradients, and back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def normalised(model: Model, samples: Samples, at: NDArray[np.int64]) -> Tensor:
    """Return the samples at ``at``, int64 (B,), as an evaluation sees them: of features the image itself."""
    x = samples.rows(at)
    return model.normalise(x[:, :1] if model.architecture.kind == "features" else x)


def predict(model: Model, samples: Samples, at: NDArray[np.int64] | None = None) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and embeddings (N, D) in evaluation mode, on the processor.

    Args:
        model: the model.
        samples: what to predict.
        at: which of them, int64 (N,); by default all.
    """
    chosen = np.arange(len(samples)) if at is None else at
    logits, embeddings = [], []
    size, each = batches_for(model, EVALUATION_BATCH)

    def predicted(start: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():  # each thread has its own mode
            z = model.embed(normalised(model, samples, chosen[start : start + size]))
            return model.classify(z).cpu(), z.cpu()

    with evaluating(model):
        starts = range(0, len(chosen), size)
        for part, z in each(predicted, starts):
            logits.append(part)
            embeddings.append(z)
    return torch.cat(logits), torch.cat(embeddings)


Indices = NDArray[np.int64]

# Share of the first sample in a mixture.
MIXED_SHARE = 0.55
# At most so many pairs of each of the two sorts.
MOST_PAIRS = 512


def _partners(at: Indices, predicted: Indices, same: bool, rng: np.random.Generator) -> Indices:
    """Return for each sample at ``at`` another one of the same or of another class, −1 for none."""
    partners = np.full(len(at), -1, dtype=np.int64)
    for label in np.unique(predicted[at]):
        mine = np.flatnonzero(predicted[at] == label)
        others = np.flatnonzero((predicted == label) == same)
        if len(others) > same:  # a class of one sample has no other
            drawn = others[rng.integers(len(others), size=len(mine))]
            if same:  # the next one, where a sample drew itself
                at_next = (np.searchsorted(others, drawn) + 1) % len(others)
                drawn = np.where(drawn == at[mine], others[at_next], drawn)
            partners[mine] = drawn
    return partners


def mixed_pairs(predicted: Indices) -> tuple[Indices, Indices, NDArray[np.bool_]]:
    """Draw pairs of samples with the same predicted class, and with different ones.

    Args:
        predicted: int64 (N,), predicted classes.

    Returns:
        First and second sample of each pair, int64 (M,), and whether their classes are the same, bool
        (M,). At most 512 pairs of each sort, from evenly spaced first samples; the same for equal
        predictions.
    """
    rng = np.random.default_rng(0)
    at = evenly_spaced(len(predicted), MOST_PAIRS)
    firsts, seconds, sorts = [], [], []
    for same in (True, False):
        partners = _partners(at, predicted, same, rng)
        firsts.append(at[partners >= 0])
        seconds.append(partners[partners >= 0])
        sorts.append(np.full(len(seconds[-1]), same))
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(sorts)
