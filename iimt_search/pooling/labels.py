"""Labels of the target that several models and the geometry of their embeddings agree on."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iimt_search.pooling.agreement import agreement_weights

MOST_DIMENSIONS = 50
# Share of the mixture's covariance that is replaced by a round one of the same size (Ledoit and Wolf 2004).
SHRINKAGE = 0.3
ROUNDS = 5
# Embedding dimensions are not independent, as the mixture takes them to be: its evidence counts half.
EVIDENCE = 0.5
_LEAST = 1e-3


class PooledModel(NamedTuple):
    """One model's view of the target.

    Attributes:
        logits: float (N, C), finite.
        embeddings: float (N, D), finite; D = 0 where they are not known.
    """

    logits: Tensor
    embeddings: Tensor

    @property
    def probabilities(self) -> Tensor:
        """float64 (N, C)."""
        return self.logits.double().softmax(dim=-1)


class EmbeddingMixture:
    """A Gaussian mixture of one model's target embeddings: a component for each class, one covariance.

    Linear discriminant analysis without labels: expectation maximisation that begins with what is known of
    each sample, and keeps it as each sample's prior. The classes' shares are estimated with it, so none needs
    to be there.

    Args:
        embeddings: float (N, D), finite; each is scaled to length 1, and the directions that vary most are
            used, at most 50.
        prior: float (N, C), what is known of each sample's class, rows sum to 1.
    """

    def __init__(self, embeddings: Tensor, prior: Tensor) -> None:
        x = torch.nn.functional.normalize(embeddings.double(), dim=-1)
        self._centre = x.mean(dim=0)
        x = x - self._centre
        variance, directions = torch.linalg.eigh(x.T @ x / len(x))
        kept = variance > variance[-1].clamp_min(1e-30) * 1e-6
        self._directions = directions[:, kept][:, -MOST_DIMENSIONS:]
        x = x @ self._directions
        labels = prior.double()
        for _ in range(ROUNDS):
            counts = labels.sum(dim=0) + 1e-6
            means = labels.T @ x / counts[:, None]
            within = (x.T @ x - (means * counts[:, None]).T @ means) / len(x)
            size = within.trace() / max(len(within), 1)
            round_one = size * torch.eye(len(within), dtype=torch.float64)
            precision = torch.linalg.pinv((1 - SHRINKAGE) * within + SHRINKAGE * round_one, hermitian=True)
            self._slopes = precision @ means.T
            self._offsets = (counts / counts.sum()).log() - 0.5 * (means.T * self._slopes).sum(dim=0)
            labels = self._posterior(x, prior)

    def _posterior(self, x: Tensor, prior: Tensor) -> Tensor:
        evidence = x @ self._slopes + self._offsets
        labels: Tensor = (EVIDENCE * evidence + (prior.double() + _LEAST).log()).softmax(dim=-1)
        return labels

    def labels(self, embeddings: Tensor, prior: Tensor) -> Tensor:
        """Return the labels of samples, float64 (N, C), rows sum to 1."""
        x = torch.nn.functional.normalize(embeddings.double(), dim=-1) - self._centre
        return self._posterior(x @ self._directions, prior)


class Pool:
    """Models that together label the target.

    Each counts by its agreement with the others. Their mean prediction is each sample's prior in a mixture of
    each model's embeddings, and the mean of what the mixtures say is the label: ``docs/choosing.md`` tells
    what that gained.

    Args:
        models: at least one, of the same samples in the same order.

    Attributes:
        weights: of the models, float64 (M,), sum to 1.
    """

    def __init__(self, models: Sequence[PooledModel]) -> None:
        classes = models[0].logits.shape[1]
        self.weights = agreement_weights([model.logits.argmax(dim=-1) for model in models], classes)
        prior = self.mean_of(model.probabilities for model in models)
        self._mixtures = [
            EmbeddingMixture(model.embeddings, prior) if model.embeddings.numel() else None
            for model in models
        ]
        self._models = models

    def mean_of(self, values: Iterable[Tensor]) -> Tensor:
        """Return the weighted mean of one value (N, C) for each model, in their order."""
        total = torch.zeros((), dtype=torch.float64)
        for weight, value in zip(self.weights, values, strict=True):
            total = total + weight * value
        return total

    def refined(self, at: int, view: PooledModel, prior: Tensor) -> Tensor:
        """Return what the mixture of model ``at`` says of samples, float64 (N, C).

        Args:
            at: the model's place.
            view: its view of the samples, which need not be those of the pool.
            prior: the weighted mean prediction of all models for them; returned where the model's embeddings
                are not known.
        """
        mixture = self._mixtures[at]
        return prior.double() if mixture is None else mixture.labels(view.embeddings, prior)

    def labels(self) -> Tensor:
        """Return labels of the pool's samples, float64 (N, C), rows sum to 1."""
        prior = self.mean_of(model.probabilities for model in self._models)
        return self.mean_of(self.refined(at, view, prior) for at, view in enumerate(self._models))

    def shares(self) -> tuple[Tensor, Tensor]:
        """Return the classes' estimated shares of the target (C,), and how far the models' differ in them.

        The second is the weighted standard deviation over the models of the shares of their own predictions.
        """
        shares = self.labels().mean(dim=0)
        own = torch.stack([model.probabilities.mean(dim=0) for model in self._models])
        spread = (self.weights[:, None] * (own - shares) ** 2).sum(dim=0).sqrt()
        return shares, spread
