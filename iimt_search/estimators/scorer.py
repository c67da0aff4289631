"""Label-free validators as scikit-learn scorers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest
from torch import Tensor

from iimt_search.errors import UsageError
from iimt_search.validators.contract import Predictions, lacking, score_all
from iimt_search.validators.registry import VALIDATORS

# What one fitted estimator and its samples have.
_KNOWN = {"source logits", "source labels", "source embeddings", "target logits", "target embeddings"}
_LEAST = 1e-30

Embed = Callable[[Any, Any], Any]


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64)).float()


def _logits(estimator: Any, x: Any, **more: Any) -> Tensor:
    """Return logits (N, C) of an estimator's ``predict_proba``, else of its ``decision_function``."""
    if len(x) == 0:
        return torch.zeros(0, 0)
    if hasattr(estimator, "predict_proba"):
        return _tensor(np.log(np.maximum(estimator.predict_proba(x, **more), _LEAST)))
    if not hasattr(estimator, "decision_function"):
        raise UsageError(
            f"{type(estimator).__name__} has neither predict_proba nor decision_function: nothing to score"
        )
    decision = _tensor(estimator.decision_function(x, **more))
    return decision if decision.ndim == 2 else torch.stack([torch.zeros_like(decision), decision], dim=1)


def last_features(estimator: Any, x: Any) -> Any:
    """Return what a pipeline's last step gets of samples; of another estimator the samples, flat."""
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        x = estimator[:-1].transform(x)
    return np.asarray(x).reshape(len(x), -1)


class ValidatorScorer:
    """A scorer ``(estimator, X, y) -> float``, higher is better; see :func:`validator_scorer`.

    With skada ``sample_domain`` is asked for, as its own scorers do: below 0 are the target's samples.
    """

    def __init__(self, validator: str, X_target: Any = None, embed: Embed = last_features) -> None:
        self.validator, self.X_target, self.embed = validator, X_target, embed

    def __repr__(self) -> str:
        return f"validator_scorer({self.validator!r})"

    def get_metadata_routing(self) -> MetadataRequest:
        """Ask for skada's ``sample_domain``, by scikit-learn's metadata routing."""
        request = MetadataRequest(owner=repr(self))
        request.score.add_request(param="sample_domain", alias=True)
        return request

    def __call__(self, estimator: Any, X: Any, y: Any = None, sample_domain: Any = None) -> float:
        """Return the validator's score of a fitted estimator, its sign turned where lower is better.

        Args:
            estimator: a fitted classifier.
            X: source validation samples; with ``sample_domain`` the target's, too.
            y: their labels, those of the target are not looked at.
            sample_domain: at least 0 of the source's samples, below 0 of the target's.

        Raises:
            UsageError: the validator needs what is not there, or there is no target.
        """
        target, of_source, of_target = self.X_target, {}, {}
        if sample_domain is not None:
            is_source = np.asarray(sample_domain) >= 0
            of_target = {"sample_domain": np.asarray(sample_domain)[~is_source]}
            of_source = {"sample_domain": np.asarray(sample_domain)[is_source], "allow_source": True}
            if target is None:
                target = np.asarray(X)[~is_source]
            X, y = np.asarray(X)[is_source], None if y is None else np.asarray(y)[is_source]
        if target is None:
            raise UsageError("a scorer needs `X_target`, or skada's `sample_domain` with target samples")
        labels = torch.zeros(0, dtype=torch.int64)
        if y is not None and len(X):
            index = {label: at for at, label in enumerate(estimator.classes_.tolist())}
            unknown = [label for label in np.unique(y).tolist() if label not in index]
            if unknown:
                raise UsageError(f"label {unknown[0]!r} is not among the estimator's classes_")
            labels = torch.tensor([index[label] for label in np.asarray(y).tolist()])
        needs = VALIDATORS[self.validator].needs
        wanted = {name: any(name in need for need in needs) for name in ("source", "embeddings")}
        x = X if wanted["source"] else X[:0]
        none = torch.zeros(0, 0)
        predictions = Predictions(
            source_logits=_logits(estimator, x, **of_source),
            source_labels=labels if wanted["source"] else labels[:0],
            source_embeddings=_tensor(self.embed(estimator, x)) if wanted["embeddings"] and len(x) else none,
            target_logits=_logits(estimator, target, **of_target),
            target_embeddings=_tensor(self.embed(estimator, target)) if wanted["embeddings"] else none,
            classifier_weight=none,
        )
        if missing := lacking(self.validator, predictions):
            told = ", ".join(name.replace("_", " ") for name in missing)
            raise UsageError(f"{self.validator} needs {told}: X and y of the source's validation samples")
        score = score_all([self.validator], predictions)[self.validator]
        return score if VALIDATORS[self.validator].higher_is_better else -score


def validator_scorer(
    validator: str, X_target: Any = None, *, embed: Embed = last_features
) -> ValidatorScorer:
    """Return a label-free validator as a scikit-learn scorer, for ``GridSearchCV`` and the like.

    The samples that scikit-learn scores are the source's validation samples then, and the target's are given
    here. With skada they come along instead, told by ``sample_domain``.

    Args:
        validator: its name, of one that needs nothing but one model's predictions and embeddings.
        X_target: target samples, without labels; None where ``sample_domain`` tells them.
        embed: takes a fitted estimator and samples, and returns their embeddings (N, D); by default what the
            last step of a pipeline gets, and of another estimator the samples themselves.

    Raises:
        UsageError: there is no such validator, or one model's predictions are not all that it needs.
    """
    able = [n for n, entry in VALIDATORS.items() if _KNOWN.issuperset(entry.needs) and entry.cost != "pool"]
    if validator not in able:
        known = f"needs {', '.join(VALIDATORS[validator].needs)}" if validator in VALIDATORS else "is unknown"
        raise UsageError(f"validator {validator!r} {known}; a scorer can be any of {', '.join(able)}")
    return ValidatorScorer(validator, X_target, embed)
