"""A search as a scikit-learn classifier."""

import pickle
import pickletools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from iimt_search import IIMTClassifier
from iimt_search.errors import ModelFileError, UsageError

TINY: dict[str, Any] = {
    "train": {"width": 8, "evaluations": 1, "precision": "float32"},
    "confirm": {"top": 1, "seeds": 1},
    "retrain": {"seeds": 1},
    "reference": {"trials": 1},
}
X, _y = make_blobs(60, centers=3, n_features=4, random_state=0)
Y = np.array(["ant", "bee", "cat"])[_y]
TARGET = X[:40] + 0.5


def tiny(**more: Any) -> IIMTClassifier:
    return IIMTClassifier(**{"trials": 1, "steps": 2, "space": TINY, "device": "cpu", **more})


@pytest.fixture(scope="module")
def fitted() -> IIMTClassifier:
    return tiny(steps=60).fit(X, Y, TARGET)


def test_it_is_fitted_and_predicts(fitted: IIMTClassifier) -> None:
    assert fitted.classes_.tolist() == ["ant", "bee", "cat"] and fitted.n_features_in_ == 4
    p = fitted.predict_proba(TARGET)
    assert p.shape == (40, 3) and np.allclose(p.sum(axis=1), 1)
    assert (fitted.predict(TARGET) == fitted.classes_[p.argmax(axis=1)]).all()
    assert fitted.score(X, Y) > 0.8
    assert set(fitted.best_params_) in (set(), {"lambda_max", "alpha", "temperature", "k"})
    assert fitted.choice_["answer"] in ("trial", "source-only", "none")
    assert fitted.best_score_ == fitted.choice_["score"]
    assert fitted.model_(torch.from_numpy(TARGET).float()).shape == (40, 3)


def test_a_copy_begins_anew(fitted: IIMTClassifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() and not hasattr(copy, "classes_")


def test_saved_and_loaded_without_pickle(fitted: IIMTClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "new" / "saved")
    fitted.save(tmp_path / "new" / "saved")  # in its own place
    names = {path.name for path in (tmp_path / "new" / "saved").iterdir()}
    members = {f"member-{at}.safetensors" for at in range(1, len(fitted.model_.members))}
    assert names == {"estimator.json", "model.json", "model.safetensors", *members}
    loaded = IIMTClassifier.load(tmp_path / "new" / "saved")
    assert (loaded.predict_proba(TARGET) == fitted.predict_proba(TARGET)).all()
    assert loaded.predict(TARGET).dtype == fitted.predict(TARGET).dtype
    assert loaded.best_params_ == fitted.best_params_ and loaded.get_params() == fitted.get_params()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="mine is there, and is no saved estimator"):
        fitted.save(tmp_path / "mine")
    with pytest.raises(ModelFileError, match="mine is no whole saved estimator"):
        IIMTClassifier.load(tmp_path / "mine")
    damaged = tmp_path / "new" / "saved" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ModelFileError):
        IIMTClassifier.load(tmp_path / "new" / "saved")


def test_a_pickle_of_it_has_the_network_as_safetensors(fitted: IIMTClassifier) -> None:
    fitted.predict(TARGET)
    data = pickle.dumps(fitted)
    assert b"model.safetensors" in data
    globals_named = {arg for code, arg, _ in pickletools.genops(data) if code.name == "SHORT_BINUNICODE"}
    assert not [name for name in globals_named if name.startswith(("torch.", "iimt_search.models"))]
    assert (pickle.loads(data).predict_proba(TARGET) == fitted.predict_proba(TARGET)).all()


def test_the_study_stays_where_a_folder_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IIMT_CACHE", "/nowhere")
    first = tiny(folder=tmp_path / "s").fit(X, Y, TARGET)
    assert (tmp_path / "s" / "estimator" / "study.db").exists()
    again = tiny(folder=tmp_path / "s").fit(X, Y, TARGET)  # it is finished
    assert again.choice_ == first.choice_
    assert (again.predict_proba(TARGET) == first.predict_proba(TARGET)).all()
    shutil.rmtree(tmp_path / "s")
    assert first.predict(TARGET).shape == (40,)


def test_the_same_seed_gives_the_same_model_and_another_another(fitted: IIMTClassifier) -> None:
    one, two, other = (tiny(random_state=s).fit(X, Y, TARGET).predict_proba(TARGET) for s in (3, 3, 4))
    assert (one == two).all() and not (one == other).all()


def test_without_a_target_the_samples_are_their_own() -> None:
    model = make_pipeline(StandardScaler(), tiny()).fit(X, Y)
    assert model.predict(X).shape == (60,) and list(model[-1].choice_["scores"]) == ["source->target"]


def test_series_and_images() -> None:
    rng = np.random.default_rng(0)
    for shape in ((24, 2, 16), (24, 12, 12, 3)):
        x = rng.random(shape) * 255
        small = tiny(space={**TINY, "train": {**TINY["train"], "width": 4}})
        assert small.fit(x, np.arange(24) % 2).predict(x).shape == (24,)


@pytest.mark.parametrize(
    ("x", "y", "more", "told"),
    [
        (X, np.zeros(60, dtype=int), {}, "there is only 1 class, 0"),
        (X, np.r_[np.zeros(59), 1].astype(int), {}, "class 1 has one sample; every class needs at least 2"),
        (X, Y, {"space": {"seed": 3}}, "`space` sets seed, which is set here"),
        (X, Y, {"space": {"objective": "entropie"}}, "objective: unknown .*did you mean 'entropy'"),
        (X, Y, {"space": {"train": {"wdith": 3}}}, "unknown key 'train.wdith'; did you mean 'width'"),
        (X, Y, {"steps": 0}, "steps"),
    ],
)
def test_what_cannot_be_fitted(x: Any, y: Any, more: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, UsageError), match=told):
        tiny(**more).fit(x, y)
    with pytest.raises(ValueError, match="4 features"):
        tiny().fit(X, Y, TARGET[:, :2])


CHECKS = list(estimator_checks_generator(tiny()))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"), CHECKS, ids=[getattr(check, "func", check).__name__ for _, check in CHECKS]
)
def test_scikit_learns_own_checks_without_exception(estimator: Any, check: Any) -> None:
    name = getattr(check, "func", check).__name__
    if name == "check_classifiers_train":  # the only one that asks for accuracy
        fast = {**TINY["train"], "learning_rate": 0.05}
        estimator.set_params(steps=25, space={**TINY, "train": fast})
    check(estimator)
