from dataclasses import replace
from pathlib import Path

import pytest
import torch

from iimt_search.models.network import Architecture, Model
from iimt_search.settings import TrainSettings
from iimt_search.study.retraining.members import TrainedModel, choose_models
from iimt_search.study.veto import CHECKS
from iimt_search.training.kept import KeptCheckpoint, load_kept_predictions, save_kept
from iimt_search.validators.contract import Mixed, Predictions, score_all

HEALTHY = {"source_accuracy": 1.0, "classes_predicted": 1.0, "embedding_spread": 0.5}
BASELINE = {"a->b": HEALTHY}
COMPOSITE, ENTROPY = "composite", "entropy"
COLLAPSED = "a->b: the target embeddings have collapsed (spread 0.00)"


def model(job: str, score: float, **more: float) -> TrainedModel:
    kept = KeptCheckpoint(job, "a->b", 10, Path(f"/nowhere/{job}/10.safetensors"))
    return TrainedModel(kept, {"composite": score, "entropy": score, **HEALTHY, **more})


def collapsed(job: str, score: float = 0.9, **more: float) -> TrainedModel:
    return model(job, score, embedding_spread=0.0, **more)


def choose(*last: TrainedModel, objective: str = COMPOSITE) -> tuple[list[str], str]:
    found, flag = choose_models(last, [], objective, BASELINE)
    return [each.kept.job for each in found], flag


def keep(folder: Path, step: int, healthy: bool = True) -> KeptCheckpoint:
    """Keep a checkpoint of a training, with embeddings that have collapsed or not."""
    directions = torch.eye(4) if healthy else torch.ones(4, 4)
    logits = 3 * torch.eye(4)
    predictions = Predictions(
        source_logits=logits,
        source_labels=torch.arange(4),
        source_embeddings=torch.eye(4),
        target_logits=logits,
        target_embeddings=step * directions,
        classifier_weight=torch.eye(4),
        mixed=Mixed(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool()),
    )
    path = folder / f"{step}.safetensors"
    save_kept(path, predictions, Model(Architecture("auto", "vector", (3,), 4, 4, 0.0)), TrainSettings(), 1)
    return KeptCheckpoint("retrained", "a->b", step, path)


def test_all_sound_models_the_best_first() -> None:
    last = model("retrained", 0.7), model("fresh-0", 0.6), model("fresh-1", 0.9), model("trial", 0.8)
    assert choose(*last) == (["fresh-1", "trial", "retrained", "fresh-0"], "")
    assert choose(*last, objective=ENTROPY) == (["fresh-0", "retrained", "trial", "fresh-1"], "")


def test_shorter_trainings_stay_out_while_a_long_one_is_sound() -> None:
    def trained(name: str, steps: int, value: float) -> TrainedModel:
        made = model(name, value)
        return replace(made, kept=replace(made.kept, step=steps))

    long, short = trained("retrained", 500, 0.7), trained("fresh", 200, 0.9)
    assert choose(long, short) == (["retrained"], "")
    assert choose(long, short, trained("retrained-1", 500, 0.8)) == (["retrained-1", "retrained"], "")
    vetoed = replace(long, scores=collapsed("retrained").scores)
    assert choose(vetoed, short, trained("trial", 100, 0.95))[0] == ["fresh"]
    assert choose(short, trained("longer", 300, 0.95))[0] == ["fresh"]  # retrained with fewer steps


@pytest.mark.parametrize("objective", [COMPOSITE, ENTROPY], ids=["higher", "lower"])
def test_of_equal_ones_the_retrained_is_first(objective: str) -> None:
    assert choose(model("retrained", 0.7), model("fresh", 0.7), objective=objective)[0] == [
        "retrained",
        "fresh",
    ]


def test_one_model_alone() -> None:
    assert choose(model("retrained", 0.7)) == (["retrained"], "")


def test_what_a_veto_meets_is_left_out_whatever_its_score() -> None:
    last = collapsed("retrained"), model("fresh-0", 0.1), model("fresh-1", 0.9, source_accuracy=0.1)
    found = choose(*last, model("trial", 0.2))
    assert found == (["trial", "fresh-0"], "a->b: left out of the ensemble by a veto: retrained, fresh-1")


def test_without_a_baseline_what_is_wrong_in_itself_counts() -> None:
    last = [model("retrained", 0.9, source_accuracy=0.1), model("fresh", 0.5)]
    assert [each.kept.job for each in choose_models(last, [], COMPOSITE, None)[0]] == ["retrained", "fresh"]
    last = [collapsed("retrained"), model("fresh", 0.5)]
    assert [each.kept.job for each in choose_models(last, [], COMPOSITE, None)[0]] == ["fresh"]


def test_an_earlier_checkpoint_where_all_last_ones_are_vetoed(tmp_path: Path) -> None:
    # In no order; the latest healthy one is what is wanted.
    earlier = [keep(tmp_path, 4), keep(tmp_path, 8, healthy=False), keep(tmp_path, 6), keep(tmp_path, 2)]
    last = [collapsed("retrained", bnm=0.5), collapsed("fresh")]
    (found,), flag = choose_models(last, earlier, COMPOSITE, BASELINE)
    assert found.kept == earlier[2]
    assert flag == f"the model of a->b is taken after step 6: {COLLAPSED}"
    assert set(found.scores) == {"composite", "entropy", "bnm", *CHECKS}
    assert found.scores == score_all(found.scores, load_kept_predictions(earlier[2].path))
    assert found.scores["embedding_spread"] == pytest.approx(0.75)  # four directions: 1 − 1/4


def test_earlier_checkpoints_are_not_looked_at_where_a_last_one_is_sound() -> None:
    nowhere = KeptCheckpoint("retrained", "a->b", 4, Path("/nowhere/4.safetensors"))
    found, _ = choose_models([collapsed("retrained"), model("fresh", 0.1)], [nowhere], COMPOSITE, BASELINE)
    assert [each.kept.job for each in found] == ["fresh"]


def test_where_nothing_is_sound_the_retrained_one_and_a_flag(tmp_path: Path) -> None:
    last = [collapsed("retrained", 0.1), collapsed("fresh", 0.9)]
    for earlier in ([], [keep(tmp_path, 4, healthy=False)]):
        found, flag = choose_models(last, earlier, COMPOSITE, BASELINE)
        assert found == last[:1]
        assert flag == f"the retrained model has gone wrong: {COLLAPSED}"


@pytest.mark.parametrize("name", ["reverse_validation", "reverse_validation_short"])
def test_an_earlier_checkpoint_has_no_score_that_needs_a_training(tmp_path: Path, name: str) -> None:
    last = [collapsed("retrained", **{name: 0.3}), collapsed("fresh", **{name: 0.2})]
    (found,), _ = choose_models(last, [keep(tmp_path, 4)], COMPOSITE, BASELINE)
    assert found.kept.step == 4 and name not in found.scores
