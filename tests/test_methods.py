"""What follows from the table of loss terms."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from iimt_search.exporting.card import model_card
from iimt_search.methods import (
    METHODS,
    TERMS,
    Term,
    active_groups,
    active_terms,
    method_title,
    used_settings,
)
from iimt_search.records import Job
from iimt_search.registry import load_object
from iimt_search.settings import TrainSettings
from iimt_search.space import Space, with_defaults
from iimt_search.space.schema import default_search
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.progress import _work
from iimt_search.study.search.sampling import source_only_settings

ZERO: dict[str, Any] = {term.weight: 0.0 for term in TERMS.values()}
EARLIER = ((0.5, 2.0),)


def settings(**weights: float) -> TrainSettings:
    """Every other weight is 0."""
    return TrainSettings.model_validate({**ZERO, **weights})


@pytest.fixture
def entropy(monkeypatch: pytest.MonkeyPatch) -> Term:
    """A term that was added: it adapts, and takes a weight that settings have for something else."""
    term = Term("entropy", "iimt_search.iimt.losses:entropy", "weight_decay", ("t",))
    monkeypatch.setitem(TERMS, term.name, term)
    return term


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_every_term_has_a_loss_and_a_weight(term: Term) -> None:
    assert callable(load_object(term.loss))
    assert isinstance(TrainSettings.model_fields[term.weight].default, float)
    assert set(term.uses) <= set(default_search())


def test_what_touches_the_target_adapts() -> None:
    of_target = {name for name, term in TERMS.items() if any("t" in group for group in term.groups)}
    assert {name for name, term in TERMS.items() if term.adapts} == of_target
    assert {name for name, term in TERMS.items() if term.virtual_labels} == {"inter_domain", "intra_target"}


def test_the_default_configuration_is_iimt_with_the_papers_weights() -> None:
    default = TrainSettings()
    assert {name: getattr(default, name) for name in METHODS["iimt"].settings} == METHODS["iimt"].settings


def test_source_only_has_no_other_weight() -> None:
    space = Space.model_validate({"schema": 1, "study": "s", "tasks": ["a->b"], "train": {"w_d": 3}})
    assert list(active_terms(source_only_settings(space))) == ["source"]


def test_the_documented_rows_are_the_methods() -> None:
    text = (Path(__file__).parents[1] / "docs" / "space-file.md").read_text()
    for row, name in (("DANN only", "dann"), ("source only", "source-only")):
        found = re.search(rf"^\| {row} \| `(.*)` \|$", text, re.MULTILINE)
        assert found is not None
        made = TrainSettings.model_validate(yaml.safe_load(found[1]))
        assert {name: getattr(made, name) for name in METHODS[name].settings} == METHODS[name].settings


def test_an_earlier_value_of_lambda_max_makes_its_term_active() -> None:
    made = TrainSettings.model_validate({**ZERO, "lambda_schedule": EARLIER})
    assert list(active_terms(made)) == ["intra_target"]
    assert list(active_terms(made.model_dump(mode="json"))) == ["intra_target"]


def test_only_what_an_active_term_needs_is_embedded() -> None:
    assert active_groups(TrainSettings()) == ["s", "t", "st", "ts", "ss", "tt"]
    assert active_groups(settings(w_d=1)) == ["s", "t"]
    assert active_groups(settings(w_q=1, w_s=1)) == ["st", "ts", "ss"]


def test_only_what_means_something_is_searched() -> None:
    assert used_settings(settings(w_d=1, w_source=1)) == set()
    assert used_settings(settings(w_z=1)) == {"alpha"}
    assert used_settings(settings(w_q=1)) == {"alpha", "temperature", "k"}
    train = {"w_q": 0, "w_s": 0, "w_z": 0}
    space = Space.model_validate({"schema": 1, "study": "s", "tasks": ["a->b"], "train": train})
    assert set(space.search) == {"lambda_max", "alpha", "temperature", "k"}
    space = Space.model_validate(
        {"schema": 1, "study": "s", "tasks": ["a->b"], "train": {"w_q": 0, "lambda_max": 0}}
    )
    assert set(space.search) == {"alpha"}


def test_a_study_that_searched_what_means_nothing_is_the_same_study() -> None:
    dann = {"schema": 1, "study": "s", "tasks": ["a->b"], "train": METHODS["dann"].settings}
    now, before = Space.model_validate(dann), {**dann, "search": default_search()}
    del before["search"]["lambda_max"]  # fixed, so never searched
    stored = Space.model_validate(before).canonical()
    assert set(stored["search"]) == {"alpha", "temperature", "k"} and now.search == {}
    assert with_defaults(stored) == now.canonical()
    # Of a range of one's own, or where the term's weight is searched, nothing is left out.
    own = Space.model_validate({**dann, "search": {"k": {"low": 1, "high": 9}}}).canonical()
    assert with_defaults(own) == own
    searched = {"w_q": {"low": 0, "high": 1}, "k": before["search"]["k"]}
    fixed = {name: value for name, value in dann["train"].items() if name != "w_q"}
    with_weight = Space.model_validate({**dann, "train": fixed, "search": searched}).canonical()
    assert with_defaults(with_weight) == with_weight


def test_a_step_without_mixtures_is_cheap() -> None:
    def work(made: TrainSettings) -> float:
        return _work(Job("job", (TaskSpec.model_validate("a->b"),), made, seed=0, validators=(), folder=""))

    plain = work(settings(w_source=1))
    assert plain == work(settings(w_source=1, w_d=1)) < work(settings(w_q=1))
    assert work(settings(w_s=1)) == work(settings(w_z=1)) == work(TrainSettings())


@pytest.mark.parametrize(
    ("weights", "title"),
    [
        (METHODS["iimt"].settings, METHODS["iimt"].title),
        (METHODS["dann"].settings, METHODS["dann"].title),
        ({"w_source": 0.3}, METHODS["source-only"].title),
        (
            {"w_source": 1, "w_s": 1},
            "Without adaptation, on labelled source samples alone, with intra_source",
        ),
        ({"w_s": 1}, "Without adaptation, by the terms intra_source"),
        (
            {"w_q": 2, "w_d": 1, "w_s": 1, "lambda_max": 5},
            "IIMT (inter- and intra-domain mixup training, Yan et al. 2020), without consistency",
        ),
        (
            {"w_source": 1, "w_d": 1, "w_z": 1},
            "DANN (domain-adversarial training, Ganin et al. 2016), with consistency",
        ),
        ({"w_source": 1, "w_q": 1}, "With adaptation, by the terms source, inter_domain"),
    ],
)
def test_titles(weights: dict[str, Any], title: str) -> None:
    assert method_title(TrainSettings.model_validate({**ZERO, **weights})) == title


def card_of(hyperparameters: dict[str, Any]) -> str:
    metadata = {
        "task": "a->b",
        "architecture": {"network": "small", "width": 32},
        "preprocessing": {"kind": "image", "sample_shape": [3, 32, 32]},
        "others": [],
        "classes": ["x", "y"],
        "hyperparameters": hyperparameters,
        "scores": {},
        "seed": 1,
        "step": 1,
        "data_fingerprint": "",
        "packages": {},
    }
    return model_card(metadata, None)


def test_a_card_does_not_call_what_was_added_unadapted(entropy: Term) -> None:
    values = settings(w_source=1).model_dump(mode="json")
    assert "Without adaptation" in card_of(values)
    card = card_of({**values, entropy.weight: 0.1})
    assert "Without adaptation" not in card
    assert "With adaptation, by the terms source, entropy; network" in card


def test_a_card_of_an_earlier_version_knows_of_no_later_term(entropy: Term) -> None:
    values = settings(w_source=1).model_dump(mode="json")
    del values[entropy.weight]
    values["lambda_before"] = values.pop("lambda_schedule")
    assert "Without adaptation" in card_of(values)


def test_an_added_term_is_no_part_of_source_only_and_learns_something(entropy: Term) -> None:
    assert METHODS["source-only"].settings[entropy.weight] == 0
    assert settings(**{entropy.weight: 1.0})
    with pytest.raises(ValueError, match="every weight is 0"):
        settings()
