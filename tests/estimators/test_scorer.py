"""Validators as scikit-learn scorers."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.svm import LinearSVC

import iimt_search
from iimt_search.errors import UsageError
from iimt_search.validators.class_ami import class_ami
from iimt_search.validators.entropy import mean_entropy

X, Y = make_moons(120, noise=0.1, random_state=0)
TARGET = make_moons(80, noise=0.1, random_state=1)[0] + 0.2


def test_it_is_the_validator_with_higher_better() -> None:
    model = LogisticRegression().fit(X, Y)
    p = torch.from_numpy(model.predict_proba(TARGET))
    scored = iimt_search.validator_scorer("entropy", TARGET)(model, X, Y)
    assert scored == pytest.approx(-mean_entropy(p), abs=1e-5)
    accuracy = iimt_search.validator_scorer("source_accuracy", TARGET)(model, X, Y)
    assert accuracy == pytest.approx(model.score(X, Y))


def test_in_a_grid_search() -> None:
    pipeline = make_pipeline(PolynomialFeatures(), LogisticRegression())
    search = GridSearchCV(
        pipeline,
        {"polynomialfeatures__degree": [1, 3]},
        scoring=iimt_search.validator_scorer("composite", TARGET),
        cv=2,
    ).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    scoring = {name: iimt_search.validator_scorer(name, TARGET) for name in ("entropy", "class_ami")}
    found = cross_validate(pipeline, X, Y, scoring=scoring, cv=2)
    assert np.isfinite(found["test_entropy"]).all() and np.isfinite(found["test_class_ami"]).all()


def test_the_embeddings_are_the_last_steps_or_ones_own() -> None:
    model = make_pipeline(PolynomialFeatures(2), LogisticRegression()).fit(X, Y)
    predicted = torch.from_numpy(model.predict(TARGET))
    features = torch.from_numpy(model[:-1].transform(TARGET)).float()
    scored = iimt_search.validator_scorer("class_ami", TARGET)(model, X, Y)
    assert scored == pytest.approx(class_ami(features, predicted, 2))
    seen: list[int] = []

    def embed(_: Any, x: Any) -> Any:
        seen.append(len(x))
        return x

    iimt_search.validator_scorer("class_ami", TARGET, embed=embed)(model, X, Y)
    assert seen == [len(TARGET)]


def test_decisions_in_the_place_of_probabilities() -> None:
    scorer = iimt_search.validator_scorer("source_accuracy", TARGET)
    for model in (LinearSVC().fit(X, Y), RidgeClassifier().fit(X, np.where(Y == 1, "b", "a"))):
        y = Y if model.classes_.dtype.kind == "i" else np.where(Y == 1, "b", "a")
        assert scorer(model, X, y) == pytest.approx(model.score(X, y))
    three = np.arange(120) % 3
    assert scorer(LinearSVC().fit(X, three), X, three) >= 1 / 3 - 0.1

    class Neither:
        classes_ = np.array([0, 1])

    with pytest.raises(UsageError, match="Neither has neither predict_proba nor decision_function"):
        scorer(Neither(), X, Y)


def test_target_samples_by_skadas_sample_domain() -> None:
    model = LogisticRegression().fit(X, Y)

    class Aware:
        classes_ = model.classes_

        def predict_proba(self, x: Any, sample_domain: Any = None, allow_source: bool = False) -> Any:
            assert len(sample_domain) == len(x) and allow_source == bool((sample_domain > 0).all())
            return model.predict_proba(x)

    both, domain = np.concatenate([X, TARGET]), np.r_[np.ones(len(X)), -2 * np.ones(len(TARGET))]
    y = np.r_[Y, -np.ones(len(TARGET), dtype=int)]  # masked, and not looked at
    for name in ("composite", "entropy", "source_accuracy"):
        expected = iimt_search.validator_scorer(name, TARGET)(model, X, Y)
        assert iimt_search.validator_scorer(name)(Aware(), both, y, sample_domain=domain) == expected


def test_what_cannot_be_a_scorer() -> None:
    with pytest.raises(
        UsageError, match="'consensus' needs target logits, reference labels; a scorer can be"
    ):
        iimt_search.validator_scorer("consensus", TARGET)
    for name in ("ens_v", "mixval", "reverse_validation", "trans_score", "few_shot"):
        with pytest.raises(UsageError, match=f"'{name}' needs"):
            iimt_search.validator_scorer(name, TARGET)
    with pytest.raises(UsageError, match="'entropie' is unknown"):
        iimt_search.validator_scorer("entropie", TARGET)
    model = LogisticRegression().fit(X, Y)
    with pytest.raises(UsageError, match="a scorer needs `X_target`"):
        iimt_search.validator_scorer("entropy")(model, X, Y)
    with pytest.raises(UsageError, match="source_accuracy needs source labels: X and y"):
        iimt_search.validator_scorer("source_accuracy", TARGET)(model, X)
    with pytest.raises(UsageError, match="label 7 is not among"):
        iimt_search.validator_scorer("source_accuracy", TARGET)(model, X, Y + 7)
    assert np.isfinite(iimt_search.validator_scorer("entropy", TARGET)(model, X))
