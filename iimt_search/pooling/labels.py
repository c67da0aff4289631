"""Labels of the target that several models and the geometry of their embeddings agree on."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from iimt_search.pooling.agreement import agreement_weights, kappas, mean_agreement

MOST_DIMENSIONS = 50
# Share of the mixture's covariance that is replaced by a round one of the same size (Ledoit and Wolf 2004).
SHRINKAGE = 0.3
ITERATIONS = 5
# Classes may be rare where what the models predict together has fewer effective classes than this share of
# all. Measured on all models of a study: up to 0.93 where classes are missing or make a tail, 0.96 and more
# on balanced digits.
ALIKE = 0.94
# How often all mixtures are made: from the second time half of the prior is what they have said together.
ROUNDS = 3
# Share of the prior of models without adaptation to that of the others, where they agree as much.
ANCHOR_ODDS = 0.3
# Labels that lean on models without adaptation have at least so much of the entropy of the classes' shares
# that labels without them have: below it they have collapsed. Measured: 0.5 to 0.7 and 0.9 to 1.1.
LEAST_ENTROPY = 0.8
# The share of the samples that would have to change their class for equal shares, times κ. Measured of the
# first trials: up to 0.20 on balanced digits, 0.26 and more where classes are missing or make a tail.
LEAST_SHIFT = 0.24
_LEAST = 1e-3
_LEAST_KAPPA = 0.05


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


class Belief(NamedTuple):
    """How far a mixture believes in its components.

    Attributes:
        evidence: how much a sample's place counts beside what is known of it, in (0, 1]: embedding dimensions
            are not independent, as the mixture takes them to be.
        shrinkage: the components' means are drawn to the samples' mean as if there were so many more samples
            there, as a share of all: what hardly any sample has takes none by a mean of its own.
    """

    evidence: float
    shrinkage: float


BELIEF = Belief(0.75, 0.0)
# Where a class is rare or missing: with more belief, a part of another class is found for it.
LESS_BELIEF = Belief(0.35, 0.02)


class Projection:
    """The directions in which a model's target embeddings vary most, at most 50.

    Args:
        embeddings: float (N, D), finite; each is scaled to length 1.
    """

    def __init__(self, embeddings: Tensor) -> None:
        x = functional.normalize(embeddings.double(), dim=-1)
        self._centre = x.mean(dim=0)
        x = x - self._centre
        variance, directions = torch.linalg.eigh(x.T @ x / len(x))
        kept = variance > variance[-1].clamp_min(1e-30) * 1e-6
        self._directions = directions[:, kept][:, -MOST_DIMENSIONS:]

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Return embeddings (N, D) in these directions, float64 (N, at most 50)."""
        x = functional.normalize(embeddings.double(), dim=-1)
        projected: Tensor = (x - self._centre) @ self._directions
        return projected


class Mixture:
    """A Gaussian mixture: a component for each class, one covariance.

    Linear discriminant analysis without labels: expectation maximisation that begins with what is known of
    each sample, and keeps it as each sample's prior. The classes' shares are estimated with it, so none needs
    to be there.

    Args:
        x: float64 (N, D), centred.
        prior: float64 (N, C), what is known of each sample's class, rows sum to 1.
        belief: how far it is believed.
    """

    def __init__(self, x: Tensor, prior: Tensor, belief: Belief) -> None:
        labels, self._evidence = prior, belief.evidence
        for _ in range(ITERATIONS):
            counts = labels.sum(dim=0) + 1e-6
            sums = labels.T @ x
            within = (x.T @ x - sums.T @ (sums / counts[:, None])) / len(x)
            means = sums / (counts + belief.shrinkage * len(x))[:, None]
            size = within.trace() / max(len(within), 1)
            round_one = size * torch.eye(len(within), dtype=torch.float64)
            precision = torch.linalg.pinv((1 - SHRINKAGE) * within + SHRINKAGE * round_one, hermitian=True)
            self._slopes = precision @ means.T
            self._offsets = -0.5 * (means.T * self._slopes).sum(dim=0)
            self._shares = counts / counts.sum()
            labels = self.labels(x, prior)

    def labels(self, x: Tensor, prior: Tensor) -> Tensor:
        """Return the labels of samples, float64 (N, C), rows sum to 1."""
        known = self._shares.log() + (prior + _LEAST).log()
        labels: Tensor = (self._evidence * (x @ self._slopes + self._offsets) + known).softmax(dim=-1)
        return labels


def _entropy(labels: Tensor) -> float:
    """Return the entropy of the classes' shares of labels (N, C), in nats."""
    return float(torch.special.entr(labels.mean(dim=0)).sum())


def effective_classes(labels: Tensor) -> float:
    """Return how many classes labels (N, C) have as if in equal shares: exp of the entropy of the shares.

    Each sample counts for its likeliest class.

    >>> effective_classes(torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1]])
    2.0
    """
    return math.exp(_entropy(functional.one_hot(labels.argmax(dim=-1), labels.shape[1]).double()))


def _anchor(adapted: float, without: Sequence[Tensor], classes: int) -> float:
    """Return how much of the prior is what models without adaptation say, in [0, 1); see :class:`Pool`."""
    if not without:
        return 0.0
    odds = ANCHOR_ODDS
    if len(without) > 1 and not math.isnan(adapted):
        own = mean_agreement(without, classes)
        odds *= (max(own, _LEAST_KAPPA) / max(adapted, _LEAST_KAPPA)) ** 5
    return odds / (1 + odds)


class _Views(NamedTuple):
    """What models with adaptation see of samples.

    Attributes:
        prior: float64 (N, C), their weighted mean prediction.
        projected: each one's embeddings in its projection; None where they are not known.
    """

    prior: Tensor
    projected: list[Tensor | None]


class _Fit(NamedTuple):
    """Labels of a pool's samples, and how they were made.

    Attributes:
        belief: in the mixtures.
        anchor: share of the prior that models without adaptation have.
        mixtures: of each round, one for each model with adaptation; None where its embeddings are not known.
        labels: float64 (N, C).
    """

    belief: Belief
    anchor: float
    mixtures: list[list[Mixture | None]]
    labels: Tensor


class Pool:
    """Models that together label the target.

    Adapted models that went wrong have taught it to themselves, each another way: where those without
    adaptation agree more with each other, they know better which class a group of samples is. Which samples
    belong together, the embeddings of the adapted ones tell. So the mean prediction of both is each sample's
    prior in a mixture of each adapted model's embeddings. What the mixtures say on the mean is half of the
    prior of the next, and after some rounds the label. ``docs/choosing.md`` tells what that gained.

    Args:
        models: with adaptation, at least one, of the same samples in the same order. Each counts by its
            agreement with the others.
        without: without adaptation, of the same samples; each counts the same.

    Attributes:
        weights: of the models with adaptation, float64 (M,), sum to 1.
        kappa: how far these agree with each other, the weighted mean of each one's κ; NaN of one.
        anchor: share of the prior that those without have. It is to the others' as 0.3 (κ₀ / κ)⁵ to 1, with
            the mean κ of each kind among themselves; as 0.3 to 1 where one of them is unknown; 0 where the
            labels would collapse by it to a few classes.
        belief: in the mixtures; less where classes may be rare, if the adapted models predict what the labels
            say by it rather than what they say by more.
    """

    def __init__(self, models: Sequence[PooledModel], without: Sequence[PooledModel] = ()) -> None:
        classes = models[0].logits.shape[1]
        predicted = [model.logits.argmax(dim=-1) for model in models]
        pairs = kappas(predicted, classes)
        self.weights = agreement_weights(pairs)
        others = len(models) - 1
        self.kappa = float(self.weights @ pairs.sum(dim=1)) / others if others else math.nan
        self._own = torch.stack([model.probabilities.mean(dim=0) for model in models])
        self._projections = [
            Projection(model.embeddings) if model.embeddings.numel() else None for model in models
        ]
        views = self._seen(models)
        alone = [model.logits.argmax(dim=-1) for model in without]
        anchor = _anchor(self.kappa, alone, classes)
        fit = self._fit(views, without, anchor, BELIEF)
        if effective_classes(views.prior) < ALIKE * classes:
            less = self._fit(views, without, anchor, LESS_BELIEF)
            if self._agreement(predicted, less.labels) > self._agreement(predicted, fit.labels):
                fit = less
        self.belief, self.anchor, self._mixtures, self._labels = fit

    def mean_of(self, values: Iterable[Tensor]) -> Tensor:
        """Return the weighted mean of one value (N, C) for each model with adaptation, in their order."""
        total = torch.zeros((), dtype=torch.float64)
        for weight, value in zip(self.weights, values, strict=True):
            total = total + weight * value
        return total

    def labels_of(self, models: Iterable[PooledModel], without: Iterable[PooledModel]) -> Tensor:
        """Return labels of samples, float64 (N, C), rows sum to 1.

        Args:
            models: views of the samples, which need not be those of the pool, by its models in their order;
                taken one at a time.
            without: by those without adaptation.
        """
        views = self._seen(models)
        prior = self._leaning(views.prior, without, self.anchor) if self.anchor else views.prior
        known = labels = prior
        for mixtures in self._mixtures:
            labels = self._said(mixtures, views, known)
            known = (labels + prior) / 2
        return labels

    def _seen(self, models: Iterable[PooledModel]) -> _Views:
        """Return what the models with adaptation see of samples; they are taken one at a time."""
        projected: list[Tensor | None] = []

        def probabilities() -> Iterator[Tensor]:
            for projection, model in zip(self._projections, models, strict=True):
                projected.append(None if projection is None else projection(model.embeddings))
                yield model.probabilities

        return _Views(self.mean_of(probabilities()), projected)

    def _leaning(self, prior: Tensor, without: Iterable[PooledModel], anchor: float) -> Tensor:
        """Return a prior with the share of what models without adaptation say."""
        alone = torch.stack([model.probabilities for model in without]).mean(dim=0)
        return (1 - anchor) * prior + anchor * alone

    def _fit(self, views: _Views, without: Sequence[PooledModel], anchor: float, belief: Belief) -> _Fit:
        """Label the pool's samples, without leaning on ``without`` where the labels would collapse by it."""
        fit = self._fitted(views, views.prior, 0.0, belief)
        if without:
            leaning = self._fitted(views, self._leaning(views.prior, without, anchor), anchor, belief)
            if _entropy(leaning.labels) >= LEAST_ENTROPY * _entropy(fit.labels):
                return leaning
        return fit

    def _agreement(self, predicted: Iterable[Tensor], labels: Tensor) -> float:
        """Return the weighted mean probability that labels give to the models' predicted classes."""
        each = torch.stack([labels.gather(1, classes[:, None]).mean() for classes in predicted])
        return float(self.weights @ each)

    def _said(self, mixtures: Sequence[Mixture | None], views: _Views, known: Tensor) -> Tensor:
        """Return what mixtures say on the mean; a model without one says what is known."""
        return self.mean_of(
            known if mixture is None or x is None else mixture.labels(x, known)
            for mixture, x in zip(mixtures, views.projected, strict=True)
        )

    def _fitted(self, views: _Views, prior: Tensor, anchor: float, belief: Belief) -> _Fit:
        """Make the mixtures of each round, and the labels, with a prior of which ``anchor`` is a part."""
        rounds, known, labels = list[list[Mixture | None]](), prior, prior
        for _ in range(ROUNDS):
            rounds.append([None if x is None else Mixture(x, known, belief) for x in views.projected])
            labels = self._said(rounds[-1], views, known)
            known = (labels + prior) / 2
        return _Fit(belief, anchor, rounds, labels)

    def labels(self) -> Tensor:
        """Return labels of the pool's samples, float64 (N, C), rows sum to 1."""
        return self._labels

    def shares(self) -> tuple[Tensor, Tensor]:
        """Return the classes' estimated shares of the target (C,), and how far the models' differ in them.

        The second is the weighted standard deviation over the models of the shares of their own predictions.
        """
        shares = self._labels.mean(dim=0)
        spread = (self.weights[:, None] * (self._own - shares) ** 2).sum(dim=0).sqrt()
        return shares, spread

    def source_shares(self) -> Tensor:
        """Return in which shares (C,) a training should draw the source's classes; they sum to 1.

        Domains are aligned rightly only where their classes' shares are alike: else samples of one class are
        brought to another's (Zhao et al. 2019; Tachet des Combes et al. 2020, arXiv 2003.04475, who weight
        the source by estimated shares). The estimate is trusted by κ² of the models, and otherwise all
        classes are drawn equally often (Tan et al. 2020, arXiv 1910.10320; Jiang et al. 2020, arXiv
        2006.04996); so they are, too, where κ times the estimate's distance from it is below
        :data:`LEAST_SHIFT`. A wrong estimate would confirm itself: what is drawn more often is predicted more
        often.
        """
        kappa = 0.0 if math.isnan(self.kappa) else max(self.kappa, 0.0)
        labels = self._labels.mean(dim=0)
        even = torch.full_like(labels, 1 / len(labels))
        if kappa * float((labels - even).abs().sum()) / 2 < LEAST_SHIFT:
            return even
        return kappa**2 * labels + (1 - kappa**2) * even
