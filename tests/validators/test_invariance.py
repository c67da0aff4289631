"""What holds for every validator: order and names do not matter, scores are in range, NaN goes through."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from iimt_search.validators.contract import FewShot, Mixed, Predictions
from iimt_search.validators.registry import VALIDATORS

Model = Callable[[float], Predictions]
ScoreOf = Callable[[str, Predictions], float]

NOISES = (0.3, 1.0, 2.0)
# The fixture has 4 classes and 80 samples.
RANGES = {
    "source_risk": (0.0, math.inf),
    "entropy": (0.0, math.log(4)),
    "information_maximisation": (0.0, math.log(4)),
    "bnm": (1 / 4, 1.0),
    "corr_c": (1.0, 2.0),
    "mano": (1 / 4, 4**-0.25),
    "snd": (0.0, math.log(79)),
    "class_ami": (-0.2, 1.0),
    "class_ss": (-1.0, 1.0),
    "trans_score": (-(math.acos(-1 / 3) ** 2), 2.0),
    "iwcv": (0.0, math.inf),
    "dev": (-math.inf, math.inf),
    "devn": (0.0, math.inf),
}
BROKEN = {
    "source logits": ["source_logits"],
    "source embeddings": ["source_embeddings"],
    "target logits": ["target_logits"],
    "target embeddings": ["target_embeddings"],
    "classifier weights": ["classifier_weight"],
    "mixtures": ["mixed"],
    "few-shot labels": ["few_shot"],
    "reverse training": ["reverse_logits", "short_reverse_logits"],
    "all candidates": ["target_logits"],
    "reference labels": ["reference"],
}


def shuffled(length: int, seed: int) -> Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))


def numbers(given: Predictions, part: str) -> Tensor:
    value = getattr(given, part)
    return value if isinstance(value, Tensor) else value.logits


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("noise", NOISES)
def test_order_of_target_samples(name: str, noise: float, model: Model, score_of: ScoreOf) -> None:
    given = model(noise)
    t, m = shuffled(80, 1), shuffled(80, 2)
    assert given.few_shot is not None and given.reference is not None
    changed = replace(
        given,
        target_logits=given.target_logits[t],
        reference=given.reference[t],
        target_embeddings=given.target_embeddings[t],
        mixed=Mixed(given.mixed.logits[m], given.mixed.labels[m], given.mixed.same[m]),
        few_shot=FewShot(given.few_shot.logits[m], given.few_shot.labels[m]),
    )
    assert score_of(name, changed) == pytest.approx(score_of(name, given), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("noise", NOISES)
def test_order_of_source_samples(name: str, noise: float, model: Model, score_of: ScoreOf) -> None:
    given = model(noise)
    s = shuffled(80, 3)
    assert given.reverse_logits is not None and given.short_reverse_logits is not None
    changed = replace(
        given,
        source_logits=given.source_logits[s],
        source_labels=given.source_labels[s],
        source_embeddings=given.source_embeddings[s],
        reverse_logits=given.reverse_logits[s],
        short_reverse_logits=given.short_reverse_logits[s],
    )
    assert score_of(name, changed) == pytest.approx(score_of(name, given), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["iwcv", "dev", "devn"])
def test_order_of_source_samples_with_equal_embeddings(name: str, model: Model, score_of: ScoreOf) -> None:
    given = model(1.0)
    given = replace(
        given,
        source_embeddings=given.source_embeddings[:, :3].round(),
        target_embeddings=given.target_embeddings[:, :3].round() + 1.0,
    )
    assert len(given.source_embeddings.unique(dim=0)) < 80
    scores = []
    for seed in range(5):
        s = shuffled(80, seed)
        parts = ("source_logits", "source_labels", "source_embeddings")
        scores.append(score_of(name, replace(given, **{part: getattr(given, part)[s] for part in parts})))
    assert scores == pytest.approx([scores[0]] * 5, rel=1e-9)
    assert scores[0] != pytest.approx(score_of("source_risk", given), rel=1e-3)


def with_ties(given: Predictions) -> Predictions:
    """Every third sample's two highest logits made equal, and one that knows nothing."""

    def tied(logits: Tensor) -> Tensor:
        second = logits.topk(2).values[:, 1:]
        found = torch.where((torch.arange(len(logits)) % 3 == 0)[:, None], logits.minimum(second), logits)
        found[1] = 0.0
        return found

    assert given.mixed is not None and given.few_shot is not None
    assert given.reverse_logits is not None and given.short_reverse_logits is not None
    return replace(
        given,
        source_logits=tied(given.source_logits),
        target_logits=tied(given.target_logits),
        mixed=replace(given.mixed, logits=tied(given.mixed.logits)),
        few_shot=replace(given.few_shot, logits=tied(given.few_shot.logits)),
        reverse_logits=tied(given.reverse_logits),
        short_reverse_logits=tied(given.short_reverse_logits),
    )


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("order", [[2, 0, 3, 1], [3, 2, 1, 0]], ids=["turned", "reversed"])
def test_names_of_classes(
    name: str, noise: float, ties: bool, order: list[int], model: Model, score_of: ScoreOf
) -> None:
    given = with_ties(model(noise)) if ties else model(noise)
    old = torch.tensor(order)  # the new class i is the old class old[i]
    new = old.argsort()
    assert given.few_shot is not None and given.reference is not None
    assert given.reverse_logits is not None and given.short_reverse_logits is not None
    assert given.source_shares is not None
    changed = replace(
        given,
        source_shares=given.source_shares[old],
        reference=given.reference[:, old],
        source_logits=given.source_logits[:, old],
        source_labels=new[given.source_labels],
        target_logits=given.target_logits[:, old],
        classifier_weight=given.classifier_weight[old],
        mixed=Mixed(given.mixed.logits[:, old], new[given.mixed.labels], given.mixed.same),
        few_shot=FewShot(given.few_shot.logits[:, old], new[given.few_shot.labels]),
        reverse_logits=given.reverse_logits[:, old],
        short_reverse_logits=given.short_reverse_logits[:, old],
    )
    assert score_of(name, changed) == pytest.approx(score_of(name, given), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("noise", [0.0, *NOISES, 30.0])
def test_range(name: str, noise: float, model: Model, score_of: ScoreOf) -> None:
    low, high = RANGES.get(name, (0.0, 1.0))
    score = score_of(name, model(noise))
    assert math.isfinite(score)
    assert low - 1e-9 <= score <= high + 1e-9


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite_gives_nan(name: str, bad: float, model: Model, score_of: ScoreOf) -> None:
    parts = [part for need in VALIDATORS[name].needs for part in BROKEN.get(need, [])]
    if VALIDATORS[name].needs == ("source labels", "reverse training"):
        parts = ["short_reverse_logits" if name.endswith("_short") else "reverse_logits"]
    assert parts
    for part in parts:
        given = model(1.0)
        numbers(given, part)[2, 1] = bad
        assert math.isnan(score_of(name, given)), part


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("part", sorted({part for parts in BROKEN.values() for part in parts}))
def test_what_is_not_needed_does_not_matter(name: str, part: str, model: Model, score_of: ScoreOf) -> None:
    if VALIDATORS[name].cost == "pool" or any(
        part in BROKEN.get(need, []) for need in VALIDATORS[name].needs
    ):
        return
    given = model(1.0)
    expected = score_of(name, model(1.0))
    numbers(given, part).fill_(math.nan)
    assert score_of(name, given) == expected
