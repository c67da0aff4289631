import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from iimt_search.models.network import Architecture, Model
from iimt_search.pooling.agreement import mean_agreement
from iimt_search.settings import TrainSettings
from iimt_search.study.selection.confirm import kept_agreement
from iimt_search.training.kept import save_kept
from iimt_search.validators.contract import Mixed, Predictions


def agreement(predicted: list[Tensor]) -> float:
    return mean_agreement(predicted, 6)


def classes(*values: int) -> Tensor:
    return torch.tensor(values)


A = classes(0, 0, 1, 1)
B = classes(0, 1, 1, 1)


def test_by_hand() -> None:
    # They agree on 3 of 4; by chance on (2·1 + 2·3)/16 = 1/2: κ = (3/4 − 1/2) / (1 − 1/2) = 1/2.
    assert agreement([A, B]) == pytest.approx(0.5)
    # Of three classes: 4 of 6 agree; by chance (2·3 + 2·2 + 2·1)/36 = 1/3: κ = 1/2.
    assert agreement([classes(0, 0, 1, 1, 2, 2), classes(0, 0, 1, 0, 2, 1)]) == pytest.approx(0.5)


def test_the_same_is_one_and_the_opposite_is_minus_one() -> None:
    assert agreement([A, A]) == 1
    assert agreement([A, 1 - A]) == -1


def test_as_often_as_by_chance_is_zero() -> None:
    assert agreement([A, classes(0, 1, 0, 1)]) == pytest.approx(0)


def test_all_pairs_count_alike() -> None:
    # κ(A, B) = 1/2, κ(A, −A) = −1, κ(B, −A) = (1/4 − 1/2) / (1/2) = −1/2.
    assert agreement([A, B, 1 - A]) == pytest.approx((0.5 - 1 - 0.5) / 3)


def test_models_of_one_class_agree_by_chance_only() -> None:
    assert agreement([classes(3, 3, 3), classes(3, 3, 3)]) == 0
    assert agreement([classes(3, 3, 3), classes(5, 5, 5)]) == 0
    assert agreement([A, classes(1, 1, 1, 1)]) == 0


@pytest.mark.parametrize("predicted", [[], [A]], ids=["no model", "one model"])
def test_fewer_than_two_models(predicted: list[Tensor]) -> None:
    assert math.isnan(agreement(predicted))


def keep(path: Path, predicted: Tensor, bad: float | None = None) -> Path:
    logits = torch.nn.functional.one_hot(predicted, 2).float()
    if bad is not None:
        logits[0, 0] = bad
    count = len(predicted)
    predictions = Predictions(
        source_logits=torch.zeros(2, 2),
        source_labels=torch.tensor([0, 1]),
        source_embeddings=torch.zeros(2, 3),
        target_logits=logits,
        target_embeddings=torch.zeros(count, 3),
        classifier_weight=torch.zeros(2, 3),
        mixed=Mixed(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool()),
    )
    model = Model(Architecture("auto", "vector", (3,), 2, 4, 0.0))
    save_kept(path, predictions, model, TrainSettings(), 1)
    return path


def test_of_kept_checkpoints(tmp_path: Path) -> None:
    files = [keep(tmp_path / "a.safetensors", A), keep(tmp_path / "b.safetensors", B)]
    assert kept_agreement(files) == pytest.approx(0.5)
    assert math.isnan(kept_agreement(files[:1]))


def test_of_a_kept_checkpoint_that_cannot_be_read(tmp_path: Path) -> None:
    whole = keep(tmp_path / "a.safetensors", A)
    assert math.isnan(kept_agreement([whole, tmp_path / "absent.safetensors"]))
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:50])
    assert math.isnan(kept_agreement([whole, tmp_path / "cut.safetensors"]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_of_logits_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    files = [keep(tmp_path / "a.safetensors", A), keep(tmp_path / "b.safetensors", A, bad)]
    assert math.isnan(kept_agreement(files))
