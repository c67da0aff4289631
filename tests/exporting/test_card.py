import re
from typing import Any

import pytest

from iimt_search.exporting.card import (
    UNKNOWN_ACCURACY,
    Provenance,
    audited_accuracy,
    folder_card,
    model_card,
)
from iimt_search.plain_text import markdown
from iimt_search.records import Candidate, Choice
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.validators.registry import VALIDATORS

TASK = "lab->field"
SPACE = Space.model_validate(
    {
        "schema": 1,
        "study": "own",
        "tasks": [
            {"source": {"folder": "/home/somebody/lab"}, "target": {"list": "/home/somebody/field.txt"}}
        ],
    }
)
CHOICE = Choice(
    study="own",
    tasks=(TASK,),
    answer="trial",
    trial=3,
    params={"alpha": 0.25, "k": 4},
    objective="composite",
    score=0.7,
    scores={},
    candidates=(
        Candidate("trial-3", (0.72, 0.68), 0.9),
        Candidate("source-only", (0.4, 0.41), 0.5, "its source accuracy is low"),
    ),
    reason="best mean composite",
    caveats=("alpha is at a bound of its range",),
    vetoed={"trial-1": "embeddings have collapsed"},
    members={TASK: ("retrain-trial-3-lab_to_field", "confirm-trial-3-0")},
)
ROW: dict[str, Any] = {
    "source_only": 61.3,
    "choice": {"target_accuracy": 93.1, "oracle_gap": 0.2},
    "single": 91.7,
    "oracle": 93.3,
    "default": None,
    "ceiling": 99.3,
    "test_samples": 450,
    "unseen": True,
}


def metadata(**changes: Any) -> dict[str, Any]:
    settings = TrainSettings(alpha=0.25, k=4, steps=300)
    return {
        "task": TASK,
        "architecture": {"network": "small", "width": 32},
        "preprocessing": {"kind": "image", "sample_shape": [3, 32, 32]},
        "others": ["member-1.safetensors"],
        "formats": {},
        "classes": ["rust", "clean"],
        "hyperparameters": settings.model_dump(mode="json"),
        "scores": {"composite": 0.71, "entropy": 0.3, "mixval": 0.9},
        "seed": 17,
        "step": 300,
        "data_fingerprint": "f" * 64,
        "samples": {"source_train": 190, "source_val": 48, "target": 240},
        "packages": {"iimt-search": "0.1.0", "torch": "2.15.0"},
        **changes,
    }


def story(audit: dict[str, Any] | None = None, **changes: Any) -> Provenance:
    return Provenance(Choice(**{**vars(CHOICE), **changes}), SPACE, audit)


def section(card: str, title: str) -> str:
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_what_it_is_made_of() -> None:
    card = model_card(metadata(), story())
    data = section(card, "Data")
    assert "| source, labelled | lab, images | training | 190 |" in data
    assert "| target, without labels | field, images | adaptation, and validators | 240 |" in data
    assert "f" * 64 in data and "/home/somebody" not in card
    configuration = section(card, "Configuration")
    assert "| `alpha` | 0.25 | searched |" in configuration and "| `k` | 4 | searched |" in configuration
    assert "| `steps` | 300 | fixed |" in configuration and "`w_q`" not in configuration
    training = section(card, "Training")
    assert "300 of 300 steps, seed 17" in training and "An ensemble of 2 models" in training
    assert "`retrain-trial-3-lab_to_field`, `confirm-trial-3-0`" in training
    assert "iimt-search 0.1.0, torch 2.15.0" in section(card, "Versions")


def test_how_it_was_chosen() -> None:
    found = section(model_card(metadata(), story()), "Selection")
    assert "**trial-3**, best mean composite. No target label took part." in found
    assert "| **trial-3** | 0.7000 | 0.7200, 0.6800 | 0.90 |  |" in found
    assert "| source-only | 0.4050 | 0.4000, 0.4100 | 0.50 | its source accuracy is low |" in found
    assert "trial-1: embeddings have collapsed" in found
    assert "Note: alpha is at a bound of its range." in found
    none = section(model_card(metadata(), story(answer="none", trial=None)), "Selection")
    assert "no confident choice" in none


def test_a_checkpoint_that_no_study_chose() -> None:
    card = model_card(metadata(), None)
    assert "It is not what the study itself chose" in section(card, "Selection")
    assert UNKNOWN_ACCURACY in card and "| source, labelled | lab | training | 190 |" in card


def test_every_proxy_with_its_failure() -> None:
    found = section(model_card(metadata(), story()), "Proxies, and how they fail")
    for name in ("composite", "entropy", "mixval"):
        assert f"| `{name}` |" in found and VALIDATORS[name].failure in found
    assert VALIDATORS["mixval"].trained in found
    assert "| `entropy` | 0.3000 | nats, [0, ln C] | lower |" in found
    assert "not accuracies" in " ".join(found.split())
    other_version = model_card(metadata(scores={"of_another_version": 0.5}), story())
    assert "| `of_another_version` | 0.5000 |" in other_version


def test_no_accuracy_is_told_that_was_not_audited() -> None:
    card = model_card(metadata(), story())
    assert section(card, "Accuracy on the target").strip() == UNKNOWN_ACCURACY
    assert audited_accuracy(metadata(), story()) is None


def test_the_audited_accuracy() -> None:
    card = model_card(metadata(), story({TASK: ROW}))
    found = section(card, "Accuracy on the target")
    assert UNKNOWN_ACCURACY not in card
    assert "| **this model** | **93.1** |" in found and "| without adaptation | 61.3 |" in found
    assert "450 labelled target test samples, which training never saw" in " ".join(found.split())
    assert "default configuration" not in found  # was not trained
    seen = model_card(metadata(), story({TASK: {**ROW, "unseen": False}}))
    assert "saw without their labels" in seen


def test_one_model_of_an_ensemble_has_its_own_accuracy() -> None:
    assert audited_accuracy(metadata(), story({TASK: ROW})) == 93.1
    assert audited_accuracy(metadata(others=[]), story({TASK: ROW})) == 91.7
    alone = story({TASK: ROW}, members={TASK: ("retrain-trial-3-lab_to_field",)})
    assert audited_accuracy(metadata(others=[]), alone) == 93.1


def test_few_shot_labels_are_told() -> None:
    few_shot = {TASK: {"accuracy": 0.8, "samples": 20.0, "low": 0.58, "high": 0.92}}
    card = model_card(metadata(), story(few_shot=few_shot))
    assert UNKNOWN_ACCURACY in card
    assert "Of 20 labelled target samples" in card and "80.0% are right" in card
    assert "No target label took part" not in card


def test_source_only_is_not_called_adapted() -> None:
    settings = TrainSettings(w_q=0, w_d=0, w_z=0, w_s=0, lambda_max=0, w_source=1).model_dump(mode="json")
    found = section(model_card(metadata(hyperparameters=settings), story()), "Training")
    assert "Without adaptation" in found and "IIMT" not in found


def test_names_of_users_are_text() -> None:
    card = model_card(metadata(classes=["a|b", "<script>", "`x`", "line\nbreak"]), story())
    assert "a\\|b, &lt;script>, \\`x\\`, line break" in card
    assert "<script" not in card


def test_a_folder_of_several_tasks() -> None:
    other = metadata(task="a->b")
    card = folder_card([(metadata(), story({TASK: ROW})), (other, story())])
    assert "| [lab->field](lab_to_field/MODEL_CARD.md) | 2 | trial-3 | 93.1 % |" in card
    assert "| [a->b](a_to_b/MODEL_CARD.md) | 2 | trial-3 | not known |" in card


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        ("image", [3, 32, 32], ("uint8 (B, channels, height, width) = (B, 3, 32, 32)", "photo.png")),
        ("series", [2, 40], ("float32 (B, channels, length) = (B, 2, 40)", "series.npy")),
        ("vector", [6], ("float32 (B, features) = (B, 6)", "vectors.npy")),
    ],
)
def test_the_input_of_each_kind(kind: str, shape: list[int], words: tuple[str, ...]) -> None:
    card = model_card(metadata(preprocessing={"kind": kind, "sample_shape": shape}), story())
    assert all(word in card for word in words)


def test_a_cell_stays_one_cell() -> None:
    assert markdown("x|y") == "x\\|y"
