"""The validator contract: what a validator receives, and how it is called."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from iimt_search.validators.registry import VALIDATORS
from iimt_search.validators.ties import predicted_classes

if TYPE_CHECKING:
    from iimt_search.validators.clusters import Clusters


@dataclass(frozen=True)
class Mixed:
    """Predictions of mixtures of pairs of target samples, 0.55 of the first and 0.45 of the second.

    Attributes:
        logits: float32 (M, C).
        labels: int64 (M,), the class that the model predicts for each pair's first sample.
        same: bool (M,), whether it predicts the same class for the second.
    """

    logits: Tensor
    labels: Tensor
    same: Tensor


@dataclass(frozen=True)
class FewShot:
    """Predictions of labelled target samples that the user gave on purpose.

    Attributes:
        logits: float32 (F, C).
        labels: int64 (F,).
    """

    logits: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Predictions:
    """What a validator may look at. No label of the sealed target is in it, by type.

    What several validators need is a property, computed when it is first asked for and kept: the tensors
    are not to be changed in place. Properties are no fields, and ``replace`` begins without them.

    Attributes:
        source_logits: float32 (N_s, C), on the source validation samples.
        source_labels: int64 (N_s,), their labels.
        source_embeddings: float32 (N_s, D).
        target_logits: float32 (N_t, C), on the same target samples for every candidate, in one order.
        target_embeddings: float32 (N_t, D).
        classifier_weight: float32 (C, D), of the linear classifier on the embeddings.
        mixed: of mixed target samples; at a training's end only.
        few_shot: of the labelled target samples, where the user gave some.
        reverse_logits: float32 (N_s, C), on the source validation samples, by a model that was
            trained from the pseudo-labelled target back to the unlabelled source; None where that
            training was not asked for.
        short_reverse_logits: the same, by a training of a tenth of the steps from this model's weights.
        source_shares: (C,), in which the training drew the source's classes; None where it drew what there
            is, or all equally often.
        reference: float (N_t, C), what the study's first trials and source-only together say of the target
            samples, rows sum to 1.
    """

    source_logits: Tensor
    source_labels: Tensor
    source_embeddings: Tensor
    target_logits: Tensor
    target_embeddings: Tensor
    classifier_weight: Tensor
    mixed: Mixed | None = None
    few_shot: FewShot | None = None
    reverse_logits: Tensor | None = None
    short_reverse_logits: Tensor | None = None
    source_shares: Tensor | None = None
    reference: Tensor | None = None

    @cached_property
    def target_probabilities(self) -> Tensor:
        """float64 (N_t, C), the softmax of the target logits; all NaN where one is not finite."""
        probabilities = torch.softmax(self.target_logits.double(), dim=-1)
        return probabilities if all_finite(self.target_logits) else torch.full_like(probabilities, torch.nan)

    @cached_property
    def target_classes(self) -> Tensor:
        """int64 (N_t,), as :func:`iimt_search.validators.ties.predicted_classes` finds them."""
        return predicted_classes(self.target_logits)

    @cached_property
    def target_clusters(self) -> "Clusters | None":
        """As :func:`iimt_search.validators.clusters.kmeans_clusters` finds them, one a class."""
        from iimt_search.validators.clusters import kmeans_clusters  # which imports this module

        return kmeans_clusters(self.target_embeddings, self.target_logits.shape[1])

    @cached_property
    def importance_weights(self) -> Tensor:
        """float64 (N_s,), see :func:`iimt_search.validators.density_ratio.importance_weights`."""
        from iimt_search.validators.density_ratio import importance_weights  # which imports this module

        return importance_weights(self.source_embeddings, self.target_embeddings)


def all_finite(*tensors: Tensor) -> bool:
    """Return whether no value is NaN or infinite. ``argmax`` of NaN is class 0: look before it."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


class ValidatorModule(Protocol):
    """What a module of this package offers to be a validator: a pure function of predictions."""

    def score(self, predictions: Predictions) -> float:
        """Return the score; NaN where it is undefined."""


class CompositeModule(Protocol):
    """What a module offers whose validator is made of others."""

    def combine(self, *parts: float) -> float:
        """Return the score of the parts' scores; NaN where one is NaN."""


class PoolModule(Protocol):
    """What a module offers whose validator compares all candidates."""

    def score_pool(self, pool: Sequence[Tensor]) -> list[float]:
        """Return a score for each candidate's target logits (N, C), of the same samples in one order."""


def score_candidates(name: str, pool: Sequence[Tensor]) -> list[float]:
    """Return a pool validator's score of each candidate.

    Args:
        name: a validator whose cost is ``pool``.
        pool: float (N, C) for each candidate, target logits of the same samples in one order.
    """
    return cast(PoolModule, import_module(VALIDATORS[name].module)).score_pool(pool)


# What a validator needs, or costs → the field of the predictions that has it.
_FIELDS = {
    "source logits": "source_logits",
    "source labels": "source_labels",
    "source embeddings": "source_embeddings",
    "target logits": "target_logits",
    "target embeddings": "target_embeddings",
    "classifier weights": "classifier_weight",
    "mixtures": "mixed",
    "few-shot labels": "few_shot",
    "training": "reverse_logits",
    "short training": "short_reverse_logits",
    "reference": "reference",
    "reference labels": "reference",
}


def lacking(validator: str, predictions: Predictions) -> list[str]:
    """Return the fields that a validator needs and that are None, or have no values, in the predictions."""
    entry = VALIDATORS[validator]
    fields = dict.fromkeys(_FIELDS[name] for name in (*entry.needs, entry.cost) if name in _FIELDS)
    values = {name: getattr(predictions, name) for name in fields}
    return [name for name, v in values.items() if v is None or (isinstance(v, Tensor) and v.numel() == 0)]


def score_all(names: Iterable[str], predictions: Predictions) -> dict[str, float]:
    """Return the score of each named validator; what several need is computed once.

    Raises:
        KeyError: a name is not in :data:`iimt_search.validators.registry.VALIDATORS`.
    """
    known: dict[str, float] = {}

    def score(name: str) -> float:
        if name not in known:
            entry = VALIDATORS[name]
            module = import_module(entry.module)
            if entry.parts:
                known[name] = cast(CompositeModule, module).combine(*map(score, entry.parts))
            else:
                known[name] = cast(ValidatorModule, module).score(predictions)
        return known[name]

    return {name: score(name) for name in names}
