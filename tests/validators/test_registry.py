import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module

import pytest
import torch
from torch import Tensor

from iimt_search.validators.contract import Predictions, score_all
from iimt_search.validators.registry import VALIDATORS, default_validators

Model = Callable[[float], Predictions]
ScoreOf = Callable[[str, Predictions], float]

# They find a collapse, and say nothing of right and wrong.
CHECKS = ("classes_predicted", "embedding_spread")


@pytest.mark.parametrize("name", VALIDATORS)
def test_every_entry_scores(name: str, model: Model, score_of: ScoreOf) -> None:
    score = score_of(name, model(1.0))
    assert type(score) is float
    assert math.isfinite(score)


@pytest.mark.parametrize("name", VALIDATORS)
def test_module_is_named_as_the_entry(name: str) -> None:
    assert VALIDATORS[name].module.rpartition(".")[2] == name
    function = "combine" if VALIDATORS[name].parts else "score"
    if VALIDATORS[name].cost == "pool":
        function = "score_pool"
    assert callable(getattr(import_module(VALIDATORS[name].module), function))


@pytest.mark.parametrize("name", [name for name in VALIDATORS if name not in CHECKS])
def test_direction(name: str, model: Model, score_of: ScoreOf) -> None:
    good = score_of(name, model(0.1))
    poor = model(4.0)
    # Unsure as well as wrong: confidence alone would please the entropy.
    bad = score_of(name, replace(poor, target_logits=poor.target_logits * 0.05))
    assert (good > bad) is VALIDATORS[name].higher_is_better


@pytest.mark.parametrize("name", CHECKS)
def test_direction_of_checks(name: str, model: Model, score_of: ScoreOf) -> None:
    good = model(0.1)
    collapsed = replace(
        good,
        target_logits=good.target_logits[:1].repeat(80, 1),
        target_embeddings=torch.full_like(good.target_embeddings, 0.7),
    )
    assert (score_of(name, good) > score_of(name, collapsed)) is VALIDATORS[name].higher_is_better


@pytest.mark.parametrize("name", VALIDATORS)
def test_predictions_are_not_changed(name: str, model: Model, score_of: ScoreOf) -> None:
    given, before = model(2.0), model(2.0)
    score_of(name, given)
    for field in fields(given):
        value, old = getattr(given, field.name), getattr(before, field.name)
        parts = [value] if isinstance(value, Tensor) else vars(value).values()
        kept = [old] if isinstance(old, Tensor) else vars(old).values()
        assert all(map(torch.equal, parts, kept)), field.name


def test_default_leaves_out_what_costs_a_training_or_needs_more(model: Model) -> None:
    default = default_validators()
    left_out = set(VALIDATORS) - set(default)
    assert left_out == {
        *("reverse_validation", "reverse_validation_short", "few_shot", "ens_v", "snd", "class_ss"),
        *("trans_score", "neighbour_agreement", "iwcv", "dev", "devn", "consensus"),
    }
    given = replace(model(1.0), few_shot=None, reverse_logits=None, short_reverse_logits=None)
    assert set(score_all(default, given)) == set(default)


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
