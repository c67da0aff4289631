"""Predictions in evaluation mode: of any samples, and of those that validators score."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iimt_search.data.task import DomainTask
from iimt_search.models.network import Model, batches_for, of_source
from iimt_search.training.batches import Samples, evenly_spaced, shared_samples
from iimt_search.validators.contract import FewShot, Mixed, Predictions

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


class EvaluatedSamples:
    """What the models of a training are evaluated on: validation, target and few-shot samples of its task.

    Args:
        task: the task.
        val: its source validation samples, as the training sees the source.
        target: its target samples.
        most: of both, at most so many are scored, evenly spaced.
    """

    def __init__(self, task: DomainTask, val: Samples, target: Samples, most: int) -> None:
        self._task, self._val, self._target = task, val, target
        few_shot = task.few_shot
        self._few_shot = None if few_shot is None else Samples(few_shot.unlabelled, target.device)
        self._scored_val = evenly_spaced(len(val), most)
        self._scored_target = evenly_spaced(len(target), most)

    def predictions(self, model: Model, *, mixed: bool, source_shares: Tensor | None) -> Predictions:
        """Return what a model predicts.

        Args:
            model: the model.
            mixed: whether of mixtures of target samples, too.
            source_shares: (C,), in which its training drew the source's classes.
        """
        with of_source(model):
            source_logits, source_embeddings = predict(model, self._val, self._scored_val)
        target_logits, target_embeddings = predict(model, self._target, self._scored_target)
        return Predictions(
            source_logits=source_logits,
            source_labels=torch.from_numpy(self._task.source_val.y[self._scored_val]),
            source_embeddings=source_embeddings,
            target_logits=target_logits,
            target_embeddings=target_embeddings,
            classifier_weight=model.classifier.weight.detach().cpu(),
            mixed=self._mixed(model, target_logits) if mixed else None,
            source_shares=source_shares,
            few_shot=self._predict_few_shot(model),
        )

    def predict_validation(self, model: Model, as_target: bool) -> Tensor:
        """Return logits of the source validation samples, seen as the source's or as the target's."""
        samples = (
            shared_samples(self._task.source_val.unlabelled, self._val.device) if as_target else self._val
        )
        with of_source(model, not as_target):
            return predict(model, samples, self._scored_val)[0]

    def _mixed(self, model: Model, target_logits: Tensor) -> Mixed:
        first, second, same = mixed_pairs(target_logits.argmax(dim=-1).numpy())
        size, each = batches_for(model, EVALUATION_BATCH)

        def predicted(start: int) -> Tensor:
            pairs = (part[start : start + size] for part in (first, second))
            with torch.no_grad():  # each thread has its own mode
                x, other = (normalised(model, self._target, self._scored_target[at]) for at in pairs)
                mixture = x.mul_(MIXED_SHARE).add_(other, alpha=1 - MIXED_SHARE)
                return model.classify(model.embed(mixture)).cpu()

        with evaluating(model):
            logits = list(each(predicted, range(0, len(first), size)))
        return Mixed(
            logits=torch.cat(logits) if logits else target_logits[:0],
            labels=target_logits.argmax(dim=-1)[torch.from_numpy(first)],
            same=torch.from_numpy(same),
        )

    def _predict_few_shot(self, model: Model) -> FewShot | None:
        if self._few_shot is None or self._task.few_shot is None:
            return None
        return FewShot(predict(model, self._few_shot)[0], torch.from_numpy(self._task.few_shot.y))
