"""A search as a scikit-learn classifier."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from iimt_search.api import load_space, run
from iimt_search.errors import ModelFileError, UsageError
from iimt_search.exporting.load import Predictor, load_model
from iimt_search.exporting.predict_files import predict_inputs
from iimt_search.files import atomic_write, json_text, shown, write_text
from iimt_search.space import Space
from iimt_search.task_name import slug

SCHEMA = 1
_TASK = "source->target"
_ABOUT = "estimator.json"
_BATCH = 512
# Where a class has few samples, so many of each stay for training beside those for validation.
_LEAST = 2


@contextmanager
def _prepared_in(folder: Path) -> Iterator[None]:
    """Let what is prepared of the arrays lie with the study: it goes when the study goes."""
    before = os.environ.get("IIMT_CACHE")
    os.environ["IIMT_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("IIMT_CACHE")
        os.environ.update({} if before is None else {"IIMT_CACHE": before})


class IIMTClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The whole job, search, choice and retraining, as a scikit-learn classifier for arrays.

    ``fit(X, y, X_target)`` adapts to the target; no label of it is asked for. ``fit(X, y)`` takes X itself as
    the target: the same method without a shift. Samples are vectors (N, F); of three or four dimensions they
    are series (N, channels, length) or images (N, height, width[, channels]), as in a space file.

    Args:
        trials: budget of finished trials.
        steps: training steps of each, and of the retraining.
        space: further keys of a space file, such as ``search``, ``train``, ``objective``, ``confirm``; see
            ``docs/space-file.md``. ``tasks``, ``study`` and ``seed`` are set here.
        workers: trials at once, each in a process of its own; 0: within this process.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        random_state: seed of everything: an int, a ``RandomState``, or None for another one each time.
        folder: where the study is made, as ``run`` makes it, and stays; by default nothing stays.
        verbose: print what the run tells.

    Attributes:
        classes_: labels, in the order of the probabilities.
        n_features_in_: the second length of X.
        best_params_: the searched parameters and their chosen values; empty where source-only is chosen.
        best_score_: the objective's mean over the fresh seeds.
        choice_: the whole choice, :class:`iimt_search.records.Choice`, as JSON values.
    """

    def __init__(
        self,
        *,
        trials: int = 16,
        steps: int = 200,
        space: Mapping[str, Any] | None = None,
        workers: int = 0,
        device: str = "auto",
        random_state: Any = 0,
        folder: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.trials = trials
        self.steps = steps
        self.space = space
        self.workers = workers
        self.device = device
        self.random_state = random_state
        self.folder = folder
        self.verbose = verbose

    def _space(self, data: Path, samples: int) -> Space:
        given = dict(self.space or {})
        if wrong := {"tasks", "study", "seed", "schema"} & set(given):
            raise UsageError(f"`space` sets {min(wrong)}, which is set here")
        source, target = ({"arrays": str((data / f"{name}.npz").absolute())} for name in ("source", "target"))
        content = {
            "schema": 1,
            "study": "estimator",
            "seed": int(check_random_state(self.random_state).randint(2**31 - 1)),
            "tasks": [{"name": _TASK, "source": [source], "target": {**target, "labelled": False}}],
            **given,
            "train": {
                "steps": self.steps,
                "batch_size": max(2, min(64, samples)),
                **given.get("train", {}),
            },
            "budget": {"trials": self.trials, **given.get("budget", {})},
        }
        write_text(data / "space.yaml", json_text(content, indent=2))  # which is YAML, too
        return load_space(data / "space.yaml")

    def fit(self, X: Any, y: Any, X_target: Any = None) -> Self:
        """Search, choose and retrain.

        Args:
            X: (N, …), source samples.
            y: (N,), their labels; every class has at least two samples.
            X_target: (M, …), target samples as X has them; None: X itself.

        Raises:
            ValueError: arrays that cannot be, as scikit-learn tells it.
            SpaceError: ``space`` has a key or a value that cannot be.
            UsageError: it sets what is set here.
            StudyMismatchError: ``folder`` holds a study of other data or settings.
        """
        X, y = validate_data(self, X, y, dtype="numeric", allow_nd=True)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        counts = np.bincount(index)
        if len(self.classes_) < 2:
            raise ValueError(f"there is only 1 class, {self.classes_[0]}: nothing to tell apart")
        if counts.min() < _LEAST:
            rare = self.classes_[counts.argmin()]
            raise ValueError(f"class {rare} has one sample; every class needs at least {_LEAST}")
        target = X
        if X_target is not None:
            target = validate_data(self, X_target, dtype="numeric", allow_nd=True, reset=False)
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary if self.folder is None else self.folder)
            data = root / "data"
            data.mkdir(parents=True, exist_ok=True)
            for name, arrays in (("source", {"x": X, "y": index}), ("target", {"x": target})):
                with atomic_write(data / f"{name}.npz") as beside, beside.open("wb") as file:
                    np.savez(file, **arrays)
            # A fifth of the source validates; where classes are rare, one sample of each does.
            fit = len(X) - max(len(self.classes_), -(-len(X) // 5))
            with _prepared_in(data / "prepared"):
                (choice,) = run(
                    self._space(data, min(fit, len(target))),
                    studies_dir=root,
                    workers=self.workers,
                    device=self.device,
                    progress=print if self.verbose else None,
                )
            model = Path(choice.models) / slug(_TASK)
            self._files = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
        self.best_params_, self.best_score_ = dict(choice.params), choice.score
        self.choice_ = {**choice.to_json(), "models": ""}
        self.__dict__.pop("_model", None)
        _ = self.model_
        return self

    @property
    def model_(self) -> Predictor:
        """The trained network, or ensemble: an ``nn.Module`` from samples to logits."""
        check_is_fitted(self, "classes_")
        if "_model" not in self.__dict__:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in self._files.items():
                    Path(folder, name).write_bytes(content)
                self._model = load_model(folder)
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network out: it is in the state as safetensors."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_model"}

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return probabilities (N, C) of the classes, in the order of ``classes_``.

        Raises:
            ValueError: samples are not as those of ``fit``, or a probability is not finite.
        """
        model = self.model_
        X = validate_data(self, X, dtype="numeric", allow_nd=True, reset=False)
        with tempfile.TemporaryDirectory() as folder:  # read as `iimt-search predict` reads an array
            np.save(Path(folder, "x.npy"), X)
            found = list(predict_inputs(model, [Path(folder, "x.npy")], _BATCH))
        if wrong := [each.error for each in found if each.probabilities is None]:
            raise ValueError(wrong[0])
        p = np.array([each.probabilities for each in found], dtype=np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each sample, (N,)."""
        chosen = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[chosen])

    def save(self, folder: str | Path) -> None:
        """Write the fitted estimator as a folder: what ``best --export`` writes, and one more JSON file.

        Labels are numbers or texts. Its place must be free, or hold such a folder.
        """
        check_is_fitted(self, "classes_")
        folder = Path(folder)
        if folder.exists() and not (folder / _ABOUT).exists():
            raise UsageError(f"{shown(folder)} is there, and is no saved estimator")
        about = {
            "schema": SCHEMA,
            "classes": self.classes_.tolist(),
            "classes_type": self.classes_.dtype.str,
            "features": self.n_features_in_,
            "choice": self.choice_,
            "params": {n: str(v) if isinstance(v, Path) else v for n, v in self.get_params().items()},
        }
        if not isinstance(self.random_state, int | None):
            about["params"]["random_state"] = None
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as beside:
            beside.mkdir()
            for name, content in self._files.items():
                (beside / name).write_bytes(content)
            (beside / _ABOUT).write_text(json_text(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return a saved estimator.

        Raises:
            ModelFileError: there is none, or it is damaged.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            if about["schema"] != SCHEMA:
                raise ModelFileError(f"{shown(folder)}/{_ABOUT} has schema {about['schema']}, not {SCHEMA}")
            found = cls(**about["params"])
            found.classes_ = np.array(about["classes"], dtype=about["classes_type"])
            found.n_features_in_, found.choice_ = about["features"], about["choice"]
            found.best_params_, found.best_score_ = about["choice"]["params"], about["choice"]["score"]
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{shown(folder)} is no whole saved estimator: {error!r}") from error
        found._files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != _ABOUT}
        _ = found.model_  # damaged files are told here
        return found
