"""What validators give without samples or with one class: a defined value, or an error that says why."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions
from iimt_search.validators.registry import VALIDATORS

Model = Callable[[float], Predictions]
ScoreOf = Callable[[str, Predictions], float]

SOURCE = ("source_logits", "source_labels", "source_embeddings", "reverse_logits", "short_reverse_logits")
TARGET = ("target_logits", "target_embeddings", "mixed", "reference")


def emptied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value[:0]
    return type(value)(*(getattr(value, part.name)[:0] for part in fields(value)))


def without(given: Predictions, *parts: str) -> Predictions:
    return replace(given, **{part: emptied(getattr(given, part)) for part in parts})


def of_one_class(given: Predictions) -> Predictions:
    """A task of one class."""
    assert given.mixed is not None and given.few_shot is not None and given.reference is not None
    assert given.reverse_logits is not None and given.short_reverse_logits is not None
    none = torch.zeros(80, dtype=torch.int64)
    return replace(
        given,
        source_logits=given.source_logits[:, :1],
        source_labels=none,
        target_logits=given.target_logits[:, :1],
        classifier_weight=given.classifier_weight[:1],
        mixed=replace(given.mixed, logits=given.mixed.logits[:, :1], labels=none),
        few_shot=replace(given.few_shot, logits=given.few_shot.logits[:, :1], labels=none),
        reverse_logits=given.reverse_logits[:, :1],
        short_reverse_logits=given.short_reverse_logits[:, :1],
        reference=given.reference[:, :1],
    )


def one_source_label(given: Predictions) -> Predictions:
    return replace(given, source_labels=torch.full((80,), 2))


def one_prediction(given: Predictions) -> Predictions:
    return replace(given, target_logits=given.target_logits + torch.tensor([0.0, 99.0, 0.0, 0.0]))


def knows_nothing(given: Predictions) -> Predictions:
    """A dead network."""
    return replace(
        given,
        **{
            part: torch.zeros_like(getattr(given, part))
            for part in ("source_logits", "source_embeddings", "target_logits", "target_embeddings")
        },
    )


EMPTY = {
    "no source": ("source logits", "source labels", "source embeddings", "reverse training"),
    "no target": ("target logits", "target embeddings", "mixtures", "all candidates"),
    "no few-shot labels": ("few-shot labels",),
}
CASES: dict[str, Callable[[Predictions], Predictions]] = {
    "no source": lambda given: without(given, *SOURCE),
    "no target": lambda given: without(given, *TARGET),
    "no few-shot labels": lambda given: without(given, "few_shot"),
    "of one class": of_one_class,
    "one source label": one_source_label,
    "one prediction": one_prediction,
    "knows nothing": knows_nothing,
}
# Entropies are divided by ln C, and angles are between classes.
TWO_CLASSES = ("composite", "diversity", "trans_score")


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("case", CASES)
def test_nan_where_what_it_needs_is_empty_and_finite_elsewhere(
    name: str, case: str, model: Model, score_of: ScoreOf
) -> None:
    score = score_of(name, CASES[case](model(1.0)))
    empty = set(EMPTY.get(case, ())) & set(VALIDATORS[name].needs)
    undefined = bool(empty) or (case == "of one class" and name in TWO_CLASSES)
    assert math.isnan(score) if undefined else math.isfinite(score)


@pytest.mark.parametrize("name", ["mixval", "few_shot", "reverse_validation", "reverse_validation_short"])
def test_an_error_where_it_was_not_made_or_given(name: str, model: Model, score_of: ScoreOf) -> None:
    given = replace(model(1.0), mixed=None, few_shot=None, reverse_logits=None, short_reverse_logits=None)
    with pytest.raises(ValueError, match=f"{name} needs "):
        score_of(name, given)
