"""Predictions of samples in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iimt_search.models.network import Model
from iimt_search.training.samples import Samples

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


def predict(model: Model, samples: Samples, at: NDArray[np.int64] | None = None) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and embeddings (N, D) in evaluation mode, on the processor.

    Args:
        model: the model.
        samples: what to predict.
        at: which of them, int64 (N,); by default all.
    """
    chosen = np.arange(len(samples)) if at is None else at
    logits, embeddings = [], []
    with evaluating(model):
        for start in range(0, len(chosen), EVALUATION_BATCH):
            batch = samples.rows(chosen[start : start + EVALUATION_BATCH])
            z = model.embed(model.normalise(batch))
            embeddings.append(z.cpu())
            logits.append(model.classify(z).cpu())
    return torch.cat(logits), torch.cat(embeddings)
