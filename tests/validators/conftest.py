"""Predictions for the tests of the validators."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from iimt_search.validators.contract import FewShot, Mixed, Predictions, score_all
from iimt_search.validators.registry import VALIDATORS

CLASSES, SAMPLES, DIMENSIONS = 4, 80, 6


def blank_predictions(**parts: Any) -> Predictions:
    source, target = (parts.get(name) for name in ("source_logits", "target_logits"))
    given = next((logits for logits in (target, source) if logits is not None), torch.zeros(2, 2))
    classes, count = given.shape[1], 2 if target is None else len(target)
    filler = {
        "source_logits": torch.zeros(2, classes),
        "source_labels": torch.tensor([0, 1]),
        "source_embeddings": torch.zeros(2, 3),
        "target_logits": torch.zeros(2, classes),
        "target_embeddings": torch.zeros(count, 3),
        "classifier_weight": torch.eye(classes, 3),
        "mixed": Mixed(torch.zeros(0, classes), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool()),
    }
    return Predictions(**{**filler, **parts})


def noisy_model(noise: float) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % CLASSES
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).float()

    def logits() -> Tensor:
        return 5 * one_hot + noise * torch.randn(SAMPLES, CLASSES, generator=generator)

    def embeddings() -> Tensor:
        centres = one_hot @ torch.eye(CLASSES, DIMENSIONS)
        return centres + noise * torch.randn(SAMPLES, DIMENSIONS, generator=generator)

    return Predictions(
        source_logits=logits(),
        source_labels=labels,
        source_embeddings=embeddings(),
        target_logits=logits(),
        target_embeddings=embeddings() + 0.1,
        classifier_weight=torch.eye(CLASSES, DIMENSIONS)
        + noise * torch.randn(CLASSES, DIMENSIONS, generator=generator),
        mixed=Mixed(logits(), labels, torch.arange(SAMPLES) % 3 == 0),
        few_shot=FewShot(logits(), labels),
        reverse_logits=logits(),
        short_reverse_logits=logits(),
        source_shares=torch.arange(1, CLASSES + 1) / (CLASSES * (CLASSES + 1) / 2),
        reference=logits().softmax(dim=-1),
    )


def one_score(name: str, given: Predictions) -> float:
    if VALIDATORS[name].cost != "pool":
        return score_all([name], given)[name]
    rival = blank_predictions(target_logits=given.target_embeddings @ given.classifier_weight.T)
    scores: list[float] = import_module(VALIDATORS[name].module).score_pool(
        [given.target_logits, rival.target_logits]
    )
    return scores[0]


@pytest.fixture
def blank() -> Callable[..., Predictions]:
    """Predictions with the named parts; the others are filler."""
    return blank_predictions


@pytest.fixture
def model() -> Callable[[float], Predictions]:
    """Predictions with every part, of four classes; noise drowns what they say of the class."""
    return noisy_model


@pytest.fixture
def score_of() -> Callable[[str, Predictions], float]:
    """The score of a validator by name; in a pool of two where it compares candidates."""
    return one_score
