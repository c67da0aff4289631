"""The choice among models that others trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import iimt_search
from iimt_search.errors import DataError, UsageError
from iimt_search.judging.judge import find_models, save_predictions

COUNT, LABELS = 90, np.arange(90) % 3
Write = Callable[..., Path]


def test_the_best_model_is_chosen(models: Path) -> None:
    choice = iimt_search.choose(models)
    assert (choice.answer, choice.candidate, choice.objective) == ("model", "mcc", "consensus")
    assert choice.reason == "best mean consensus of 4 candidates; 1 vetoed"
    assert [c.name for c in choice.candidates][:2] == ["mcc", "dann"]
    by_name = {c.name: c for c in choice.candidates}
    assert by_name["lost"].veto == "the target embeddings have collapsed (spread 0.00)"
    assert len(by_name["source-only"].scores) == 2 and by_name["source-only"].agreement is not None
    assert by_name["mcc"].agreement is None  # one file
    assert choice.baselines == ("source-only",)
    assert {m.candidate for m in choice.models if m.weight == 0} >= {"source-only"}
    assert sum(m.weight for m in choice.models) == pytest.approx(1)
    assert [sum(each[key] for each in choice.shares.values()) for key in ("source", "target")] == (
        pytest.approx([1, 1])
    )
    assert choice.unscored["mixval"] == "mixed_logits and mixed_labels and mixed_same of all files"
    assert choice.caveats == ("consensus is with what 3 models say together: where most are wrong, it is",)


def test_the_order_of_the_files_does_not_matter(models: Path) -> None:
    there = sorted(models.iterdir())
    assert iimt_search.choose(there).digest == iimt_search.choose(there[::-1]).digest


def test_a_baseline_by_name(models: Path) -> None:
    choice = iimt_search.choose(models, baselines=["mcc", "source-only"], objective="composite")
    assert (choice.answer, choice.candidate) == ("baseline", "mcc")
    assert choice.reason == "no configuration scored better than the model without adaptation; 1 vetoed"
    with pytest.raises(UsageError, match=r"`baseline=nobody` is not among the candidates: dann, lost, mcc"):
        iimt_search.choose(models, baselines=["nobody"])


def test_without_a_baseline_there_is_no_confident_choice(models: Path) -> None:
    shutil.rmtree(models / "source-only")
    choice = iimt_search.choose(models)
    assert (choice.answer, choice.candidate) == ("none", "mcc")
    assert choice.reason.startswith("no model without adaptation is named as a baseline, so nothing shows")


def test_baselines_that_agree_more_than_the_others(write: Write, tmp_path: Path) -> None:
    for seed in (0, 1):
        write(f"source-only/{seed}", 0.95, seed)
    for seed in range(3):
        write(f"wild-{seed}", 0.5, 20 + seed)
    choice = iimt_search.choose(tmp_path / "models")
    assert choice.answer == "baseline"
    assert "agree on the target" in choice.reason or "no configuration scored better" in choice.reason


def test_every_candidate_vetoed(write: Write, tmp_path: Path) -> None:
    flat = np.zeros((COUNT, 8))
    for name in ("a", "b", "c", "source-only"):
        write(name, 0.9, 1, target_embeddings=flat)
    choice = iimt_search.choose(tmp_path / "models")
    assert (choice.answer, choice.candidate) == ("none", "source-only")


def test_values_that_are_not_finite(write: Write, models: Path) -> None:
    logits = np.full((COUNT, 3), np.nan)
    write("broken", 0.9, 1, target_logits=logits)
    choice = iimt_search.choose(models)
    broken = next(c for c in choice.candidates if c.name == "broken")
    assert "classes_predicted is not finite" in broken.veto and choice.candidate == "mcc"
    assert broken is choice.candidates[-1]
    json.dumps(choice.to_json(), allow_nan=False)


def test_what_is_missing_is_told_for_what(write: Write, models: Path) -> None:
    write("bare", 0.7, 5, target_embeddings=None, source_val_logits=None)
    with pytest.raises(UsageError) as told:
        iimt_search.choose(models, objective="composite", validators=["mixval"])
    assert str(told.value).startswith(
        "composite needs source_val_logits or source_val_probabilities of bare.npz; target_embeddings of "
        "bare.npz; mixval needs mixed_logits and mixed_labels and mixed_same of "
    )
    choice = iimt_search.choose(models)  # consensus needs none of them
    assert choice.candidate == "mcc"
    assert choice.caveats[:2] == (
        "no veto by source_accuracy: it needs source_val_logits or source_val_probabilities of bare.npz",
        "no veto by embedding_spread: it needs target_embeddings of bare.npz",
    )


def test_consensus_needs_three_models_with_adaptation(models: Path) -> None:
    (models / "lost.npz").unlink()
    with pytest.raises(UsageError, match="consensus needs 3 models with adaptation, all their values finite"):
        iimt_search.choose(models)
    choice = iimt_search.choose(models, objective="composite")
    assert "consensus" not in choice.scores["mcc"]


def test_probabilities_are_as_good_as_logits(write: Write, models: Path) -> None:
    for name, right, seed in (("dann", 0.8, 1), ("mcc", 0.9, 2)):
        logits = np.load(models / f"{name}.npz")["target_logits"].astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        write(name, right, seed, target_logits=None, target_probabilities=p)
    choice = iimt_search.choose(models)
    assert choice.candidate == "mcc"
    row = next(m for m in choice.models if m.path.name == "mcc.npz").probabilities
    assert torch.allclose(row, torch.from_numpy(p), atol=1e-6)


def test_models_of_other_samples(write: Write, models: Path) -> None:
    path = write("less", 0.9, 1, target_logits=np.zeros((5, 3)), target_embeddings=None)
    with pytest.raises(DataError, match=r"less.npz predicts \(5, 3\).*all have to predict the same samples"):
        iimt_search.choose(models)
    path.unlink()


def test_finding_candidates(write: Write, models: Path, tmp_path: Path) -> None:
    assert list(find_models([models])) == ["dann", "lost", "mcc", "source-only"]
    assert list(find_models(sorted(models.iterdir()))) == ["dann", "lost", "mcc", "source-only"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no .npz or .safetensors file in .*empty/"):
        find_models([tmp_path / "empty"])
    with pytest.raises(DataError, match="two candidates are named 'mcc'"):
        find_models([models / "mcc.npz", shutil.copy(models / "mcc.npz", tmp_path / "mcc.npz")])
    with pytest.raises(DataError, match=r"a.txt: a model's file ends in .npz or .safetensors"):
        find_models([tmp_path / "a.txt", models / "mcc.npz"])


def test_what_all_say_together(models: Path, tmp_path: Path) -> None:
    choice = iimt_search.choose(models)
    save_predictions(choice, tmp_path / "new" / "said.npz")
    with np.load(tmp_path / "new" / "said.npz") as said:
        assert np.allclose(said["probabilities"].sum(axis=1), 1)
        together = (said["ensemble"].argmax(axis=1) == LABELS).mean()
        alone = (said["probabilities"].argmax(axis=1) == LABELS).mean()
    assert together >= alone > 0.8


def test_the_audit_is_another_step(models: Path) -> None:
    choice = iimt_search.choose(models)
    audit = iimt_search.audit_models(choice, LABELS)
    assert audit.digest == choice.digest
    assert audit.candidates["mcc"] == audit.task.choice == pytest.approx(90, abs=8)
    assert audit.task.oracle >= audit.task.choice > audit.task.source_only
    assert audit.ensemble is not None and audit.ensemble >= audit.candidates["dann"]
    assert audit.task.validators["consensus"].spearman > 0.5
    assert sum(map(sum, audit.task.confusion)) == COUNT
    content: dict[str, Any] = audit.to_json()
    json.dumps(content, allow_nan=False)
    assert content["tasks"]["target"]["source_only"] == audit.task.source_only


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (LABELS[:-1], r"labels: shape \(89,\); labels are one number \(90,\) for each target sample"),
        (np.full(COUNT, 3), "labels: label 3 at 0; labels are class indices from 0 to 2"),
        (np.full(COUNT, -1), "label -1 at 0"),
        (np.full(COUNT, 0.5), "label 0.5 at 0"),
    ],
)
def test_labels_that_cannot_be(models: Path, labels: Any, told: str, tmp_path: Path) -> None:
    choice = iimt_search.choose(models)
    with pytest.raises(DataError, match=told):
        iimt_search.audit_models(choice, labels)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(DataError, match=told.replace("labels: ", "labels.npy: ", 1)):
        iimt_search.audit_models(choice, tmp_path / "labels.npy")


def test_models_that_do_not_agree_are_told(write: Write, tmp_path: Path) -> None:
    for seed in range(4):
        write(f"m-{seed}", 1 / 3, seed)
    path = write("source-only/0", 0.5, 9, source_val_logits=None)
    choice = iimt_search.choose(tmp_path / "models")
    told = [text for text in choice.caveats if "hardly agree on the target" in text]
    assert len(told) == 1 and choice.agreement["adapted"] is not None and choice.agreement["adapted"] < 0.2
    assert choice.unscored["source_accuracy"].endswith(f"of source-only/{path.name}")
    assert any(text.startswith("one model without adaptation: whether") for text in choice.caveats)
