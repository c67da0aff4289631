import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from iimt_search.errors import ModelFileError
from iimt_search.models.network import Architecture, Model
from iimt_search.settings import TrainSettings
from iimt_search.study.folder import StudyFolder
from iimt_search.study.scoring import ScoredCheckpoint, computable, preferred, score_kept
from iimt_search.training.kept import KeptCheckpoint, save_kept
from iimt_search.validators.contract import FewShot, Mixed, Predictions
from iimt_search.validators.registry import VALIDATORS

NEEDY = ("consensus", "few_shot", "reverse_validation", "reverse_validation_short")

NO_STUDY = StudyFolder(Path("absent"))


def logits(*predicted: int) -> Tensor:
    return 4 * torch.nn.functional.one_hot(torch.tensor(predicted), 2).float()


def make(target: Tensor, **more: Any) -> Predictions:
    return Predictions(
        source_logits=logits(0, 1, 1, 1),
        source_labels=torch.tensor([0, 1, 0, 1]),
        source_embeddings=torch.zeros(4, 3),
        target_logits=target,
        target_embeddings=torch.eye(3)[torch.arange(len(target)) % 3],
        classifier_weight=torch.zeros(2, 3),
        mixed=Mixed(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool()),
        **more,
    )


Keep = Callable[..., KeptCheckpoint]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    def write(job: str, predictions: Predictions, task: str = "a->b") -> KeptCheckpoint:
        path = tmp_path / f"{job} {task[0]}.safetensors"
        model = Model(Architecture("auto", "vector", (3,), 2, 4, 0.0))
        save_kept(path, predictions, model, TrainSettings(), 1)
        return KeptCheckpoint(job, task, 4, path)

    return write


def score(kept: list[KeptCheckpoint], *names: str) -> list[dict[str, float]]:
    return [each.scores for each in score_kept(NO_STUDY, kept, names, lambda done, of: None)]


def test_what_can_be_computed_is_what_was_kept() -> None:
    bare = make(logits(0, 1))
    assert {name for name in VALIDATORS if not computable(name, bare)} == set(NEEDY)
    assert computable("few_shot", replace(bare, few_shot=FewShot(logits(0), torch.tensor([0]))))
    assert computable("reverse_validation", replace(bare, reverse_logits=logits(0, 1, 1, 1)))
    assert computable("reverse_validation_short", replace(bare, short_reverse_logits=logits(0, 1, 1, 1)))
    assert not computable("reverse_validation", replace(bare, short_reverse_logits=logits(0, 1, 1, 1)))


def test_scores_by_hand_in_the_order_of_the_names(keep: Keep) -> None:
    few = FewShot(logits(0, 0, 1), torch.tensor([0, 1, 1]))
    rich = make(logits(0, 1, 1), few_shot=few, reverse_logits=logits(0, 1, 0, 0))
    (found,) = score([keep("x", rich)], "reverse_validation", "source_accuracy", "few_shot", "diversity")
    assert list(found) == ["reverse_validation", "source_accuracy", "few_shot", "diversity"]
    assert found["source_accuracy"] == found["reverse_validation"] == pytest.approx(3 / 4)
    assert found["few_shot"] == pytest.approx(2 / 3)
    shares = (1 / 3, 2 / 3)
    assert found["diversity"] == pytest.approx(-sum(p * math.log(p) for p in shares) / math.log(2))


def test_what_was_not_kept_has_no_score(keep: Keep) -> None:
    few = FewShot(logits(0, 0, 1), torch.tensor([0, 1, 1]))
    with_labels, without = score(
        [keep("x", make(logits(0, 1), few_shot=few)), keep("y", make(logits(0, 1)))], *NEEDY, "ens_v"
    )
    assert with_labels["few_shot"] == pytest.approx(2 / 3)
    assert math.isnan(with_labels["reverse_validation"])
    assert all(math.isnan(without[name]) for name in NEEDY)
    assert without["ens_v"] == 1


def test_a_pool_is_of_one_task(keep: Keep) -> None:
    # On a->b two of three say (0, 0, 1); on c->d every candidate is alone with itself or its like.
    kept = [
        keep("x", make(logits(0, 0, 1))),
        keep("x", make(logits(1, 1, 0, 0)), "c->d"),
        keep("y", make(logits(1, 0, 1))),
        keep("z", make(logits(0, 0, 1))),
        keep("y", make(logits(1, 1, 0, 0)), "c->d"),
    ]
    scored = score_kept(NO_STUDY, kept, ["ens_v"], lambda done, of: None)
    found = {(each.kept.job, each.kept.task): each.scores["ens_v"] for each in scored}
    assert found == {
        ("x", "a->b"): 1,
        ("y", "a->b"): pytest.approx(2 / 3),
        ("z", "a->b"): 1,
        ("x", "c->d"): 1,
        ("y", "c->d"): 1,
    }
    assert {each.kept for each in scored} == set(kept)


def test_a_model_that_is_not_finite_has_no_score_and_no_say(keep: Keep) -> None:
    bad = torch.full((3, 2), math.nan)
    found = score([keep("x", make(logits(0, 0, 1))), keep("y", make(bad))], "ens_v", "entropy")
    assert found[0]["ens_v"] == 1 and math.isfinite(found[0]["entropy"])
    assert math.isnan(found[1]["ens_v"]) and math.isnan(found[1]["entropy"])


def test_progress_counts_every_checkpoint(keep: Keep) -> None:
    kept = [keep("x", make(logits(0, 1))), keep("x", make(logits(0, 1)), "c->d")]
    told: list[tuple[int, int]] = []
    score_kept(NO_STUDY, kept, ["entropy"], lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


def test_nothing_kept_nothing_scored() -> None:
    assert score_kept(NO_STUDY, [], ["entropy", "ens_v"], lambda done, of: None) == []


def test_a_damaged_file_is_told_by_its_name(keep: Keep) -> None:
    kept = keep("x", make(logits(0, 1)))
    kept.path.write_bytes(kept.path.read_bytes()[:64])
    with pytest.raises(ModelFileError, match="x a.safetensors is not a whole kept checkpoint"):
        score([kept], "entropy")


def scored(job: str, task: str = "a->b", **scores: float) -> ScoredCheckpoint:
    return ScoredCheckpoint(KeptCheckpoint(job, task, 4, Path("x")), scores)


def test_the_preferred_one_is_best_by_the_validators_direction() -> None:
    pool = [
        scored("x", entropy=0.3, composite=0.1),
        scored("y", entropy=0.2, composite=0.9),
        scored("z", entropy=0.9, composite=math.nan),
        scored("w", "c->d", entropy=0.1, composite=1.0),
    ]
    for name, task, job in (("entropy", "a->b", "y"), ("composite", "a->b", "y"), ("entropy", "c->d", "w")):
        found = preferred(pool, name, task)
        assert found is not None and found.kept.job == job


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_preferred(bad: float) -> None:
    found = preferred([scored("x", dev=bad), scored("y", dev=5.0)], "dev", "a->b")
    assert found is not None and found.kept.job == "y"
    assert preferred([scored("x", dev=bad)], "dev", "a->b") is None
    assert preferred([], "dev", "a->b") is None


def test_as_json() -> None:
    found = scored("x", entropy=0.5, few_shot=math.nan).to_json()
    assert found == {
        "job": "x",
        "task": "a->b",
        "step": 4,
        "scores": {"entropy": 0.5, "few_shot": None},
    }
