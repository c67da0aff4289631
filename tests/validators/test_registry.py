import math
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, score_all
from iimt_search.validators.registry import VALIDATORS, default_validators

CLASSES = 4


def part(logit_noise: float, embedding_noise: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, logits and embeddings of 80 samples; noise drowns what they say of the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(80) % CLASSES
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    logits = 5 * one_hot + logit_noise * torch.randn(80, CLASSES, generator=generator)
    embeddings = one_hot + embedding_noise * torch.randn(80, CLASSES, generator=generator)
    return labels, logits, embeddings


def model(noise: float) -> Predictions:
    labels, source_logits, source_embeddings = part(noise, noise, seed=0)
    _, target_logits, target_embeddings = part(noise, noise, seed=1)
    _, reverse_logits, _ = part(noise, noise, seed=2)
    return Predictions(
        source_logits, labels, source_embeddings, target_logits, target_embeddings, reverse_logits
    )


@pytest.mark.parametrize("name", VALIDATORS)
def test_every_entry_scores(name: str) -> None:
    (score,) = score_all([name], model(noise=1.0)).values()
    assert type(score) is float
    assert math.isfinite(score)


@pytest.mark.parametrize("name", VALIDATORS)
def test_module_is_named_as_the_entry(name: str) -> None:
    assert VALIDATORS[name].module.rpartition(".")[2] == name
    function = "combine" if VALIDATORS[name].parts else "score"
    assert callable(getattr(import_module(VALIDATORS[name].module), function))


@pytest.mark.parametrize("name", VALIDATORS)
def test_direction(name: str) -> None:
    good = score_all([name], model(noise=0.1))[name]
    poor = model(noise=4.0)
    # Unsure as well as wrong: confidence alone would please the entropy.
    bad = score_all([name], replace(poor, target_logits=poor.target_logits * 0.05))[name]
    assert (good > bad) is VALIDATORS[name].higher_is_better


@pytest.mark.parametrize("name", VALIDATORS)
def test_order_of_samples_does_not_matter(name: str) -> None:
    # k-means begins at random samples: only where the clusters are clear does it end at the same ones.
    given = model(noise=0.3 if name in ("class_ami", "composite") else 2.0)
    generator = torch.Generator().manual_seed(0)
    s, t = torch.randperm(80, generator=generator), torch.randperm(80, generator=generator)
    assert given.reverse_logits is not None
    shuffled = Predictions(
        given.source_logits[s],
        given.source_labels[s],
        given.source_embeddings[s],
        given.target_logits[t],
        given.target_embeddings[t],
        given.reverse_logits[s],
    )
    assert score_all([name], shuffled)[name] == pytest.approx(score_all([name], given)[name], rel=1e-9)


@pytest.mark.parametrize("name", VALIDATORS)
def test_predictions_are_not_changed(name: str) -> None:
    given, before = model(noise=2.0), model(noise=2.0)
    score_all([name], given)
    assert all(torch.equal(getattr(given, field), getattr(before, field)) for field in vars(before))


def test_default_leaves_out_what_costs_a_training() -> None:
    default = default_validators()
    assert "reverse_validation" not in default
    assert set(VALIDATORS) - set(default) == {n for n, v in VALIDATORS.items() if v.cost == "training"}
    score_all(default, replace(model(noise=1.0), reverse_logits=None))


def test_every_entry_says_how_it_fails() -> None:
    assert [
        name for name, validator in VALIDATORS.items() if not (validator.failure and validator.unit)
    ] == []


def test_import_loads_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, iimt_search.validators.registry as r; r.default_validators();"
        "print(sorted({'torch', 'sklearn', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
