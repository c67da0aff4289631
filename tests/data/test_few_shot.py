"""Labelled target samples that the user gives on purpose: from the space file to the predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from iimt_search.data.assemble import load_task
from iimt_search.data.task import DomainTask
from iimt_search.errors import DataError, SpaceError
from iimt_search.settings import TrainSettings
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.space.task_spec import DomainSpec, TaskSpec
from iimt_search.training.batches import Samples
from iimt_search.training.predict import predict
from iimt_search.training.task_training import TaskTraining
from iimt_search.validators.contract import score_all

HEAD = "schema: 1\nstudy: s\ntasks:\n"
SETTINGS = TrainSettings(steps=6, batch_size=8, evaluation_samples=5)


def task(content: Any) -> TaskSpec:
    return TaskSpec.model_validate(content)


def vectors(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def write(path: Path, x: np.ndarray, y: list[str] | None = None) -> dict[str, str]:
    np.savez(path, x=x, **({} if y is None else {"y": np.array(y)}))
    return {"arrays": str(path)}


class Data:
    """Files of a task of vectors, and the task with or without few labelled target samples."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = write(folder / "s1.npz", vectors(1, 20), ["dog", "cat"] * 10)
        self.second = write(folder / "s2.npz", vectors(2, 20), ["cat", "ant"] * 10)
        self.target = write(folder / "t.npz", vectors(3, 30))

    def few(self, y: list[str] | None, x: np.ndarray | None = None, name: str = "few") -> dict[str, str]:
        samples = vectors(4, len(y or "1234")) if x is None else x
        return write(self.folder / f"{name}.npz", samples, y)

    def load(self, few_shot: dict[str, str] | None = None, share: float = 1.0) -> DomainTask:
        content: dict[str, Any] = {"source": [self.first, self.second], "target": self.target}
        if few_shot is not None:
            content["few_shot"] = few_shot
        load_task.cache_clear()
        return load_task(task(content), 0, share)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def test_a_name_alone_is_a_named_domain() -> None:
    found = task({"source": "a", "target": "b", "few_shot": "c"})
    assert found.few_shot == DomainSpec(named="c") and found.name == "a->b"
    assert task("a->b").few_shot is None
    assert task({"source": "a", "target": "b", "few_shot": None}).few_shot is None


@pytest.mark.parametrize("few_shot", ["c", {"folder": "/f"}, {"arrays": "/x.npy", "labels": "/y.npy"}])
def test_what_is_written_out_is_read_back(few_shot: Any) -> None:
    found = task({"source": "a", "target": "b", "few_shot": few_shot})
    written = found.model_dump()
    assert written["few_shot"] == few_shot
    assert task(written) == found and found != task("a->b")
    assert "few_shot" not in task({"name": "n", "source": "a", "target": "b"}).model_dump()


def test_a_whole_space_is_read_back_too(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "  - {source: a, target: b, few_shot: {folder: labelled/}}\n  - c->b\n")
    space = load_space(path, KnownNames(("a", "b", "c"), ("consensus",)))
    again = Space.model_validate(space.canonical())
    assert again == space
    assert [each.few_shot is not None for each in again.tasks] == [True, False]


def test_paths_are_seen_from_the_space_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s.yaml"
    path.parent.mkdir()
    path.write_text(HEAD + "  - {source: a, target: b, few_shot: {arrays: few/x.npy, labels: /abs/y.npy}}\n")
    (found,) = load_space(path, KnownNames(("a", "b"), ("consensus",))).tasks
    assert found.few_shot == DomainSpec(arrays=str(tmp_path / "deep/few/x.npy"), labels="/abs/y.npy")


def test_a_wrong_key_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "  - source: a\n    target: b\n    few_shot: {foldr: x}\n")
    with pytest.raises(SpaceError, match="did you mean 'folder'") as caught:
        load_space(path, KnownNames(("a", "b"), ("consensus",)))
    assert caught.value.line == 6
    with pytest.raises(ValidationError, match="give exactly one of named, arrays, folder, list, python"):
        task({"source": "a", "target": "b", "few_shot": {}})


def test_an_unknown_domain_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + "  - {source: a, target: b, few_shot: zzz}\n")
    with pytest.raises(SpaceError, match="unknown domain 'zzz'") as caught:
        load_space(path, KnownNames(("a", "b"), ("consensus",)))
    assert caught.value.line == 4


def test_labels_are_in_the_sources_order_of_classes(data: Data) -> None:
    named = ["ant", "dog", "cat", "dog"]
    found = data.load(data.few(named))
    assert found.classes == ("cat", "dog", "ant")  # its own order would be ant, cat, dog
    assert found.few_shot is not None
    assert found.few_shot.y.dtype == np.int64 and found.few_shot.y.tolist() == [2, 1, 0, 1]
    assert np.array_equal(found.few_shot.unlabelled.gather(), vectors(4, 4))


def test_not_every_class_needs_a_sample(data: Data) -> None:
    found = data.load(data.few(["dog", "dog"])).few_shot
    assert found is not None and found.y.tolist() == [1, 1]


def test_without_them_there_are_none(data: Data) -> None:
    found = data.load()
    assert found.few_shot is None
    assert TaskTraining(found, SETTINGS, 1).predictions().few_shot is None


def test_a_share_of_the_samples_leaves_all_of_them(data: Data) -> None:
    found = data.load(data.few(["dog", "cat", "ant", "ant"]), share=0.5)
    assert found.few_shot is not None and len(found.few_shot) == 4
    assert len(found.target) == 15


def test_they_are_nowhere_else_in_the_task(data: Data) -> None:
    held = vectors(4, 4)
    found = data.load(data.few(["dog", "cat", "ant", "ant"]))
    seen = {
        x.tobytes() for part in (found.source_train, found.source_val, found.target) for x in np.array(part.x)
    }
    assert len(seen) == 70 and not seen & {x.tobytes() for x in held}


def test_images_are_brought_to_the_tasks_size(tmp_path: Path) -> None:
    def images(name: str, side: int, y: list[str] | None) -> dict[str, str]:
        x = np.random.default_rng(side).integers(0, 256, (12, side, side, 3)).astype(np.uint8)
        return write(tmp_path / f"{name}.npz", x, y)

    content = {
        "source": images("s", 8, ["p", "n"] * 6),
        "target": images("t", 8, None),
        "few_shot": images("f", 20, ["p"] * 12),
    }
    found = load_task(task(content)).few_shot
    assert found is not None and found.x.shape == (12, 3, 8, 8) and found.y.tolist() == [1] * 12


def test_what_does_not_fit_is_told_by_its_name(data: Data) -> None:
    with pytest.raises(DataError, match="few_shot has no labels; it needs class folders, or y beside x"):
        data.load(data.few(None))
    with pytest.raises(
        DataError, match=r"few_shot's classes fox are not among the source's \(cat, dog, ant\)"
    ):
        data.load(data.few(["dog", "fox"], name="fox"))
    wide = np.zeros((2, 5), np.float32)
    with pytest.raises(DataError, match=r"few_shot samples are \(5,\), target samples \(4,\)"):
        data.load(data.few(["dog", "cat"], wide, name="wide"))
    series = np.zeros((2, 4, 9), np.float32)
    with pytest.raises(DataError, match="few_shot is of kind series, target of kind vector"):
        data.load(data.few(["dog", "cat"], series, name="series"))


def test_the_fingerprint_tells_them_apart(data: Data) -> None:
    few, moved = vectors(4, 2), vectors(4, 2)
    moved[1, 3] += 1
    found = [
        data.load(),
        data.load(data.few(["dog", "cat"], few, name="a")),
        data.load(data.few(["cat", "dog"], few, name="b")),
        data.load(data.few(["dog", "ant"], few, name="c")),
        data.load(data.few(["dog", "cat"], moved, name="d")),
    ]
    assert len({each.fingerprint for each in found}) == 5
    same = data.load(data.few(["dog", "cat"], few, name="e"))
    assert same.fingerprint == found[1].fingerprint


def test_predictions_hold_all_of_them_in_order(data: Data) -> None:
    named = ["ant", "dog", "cat", "dog", "cat", "cat", "ant"]
    found = data.load(data.few(named))
    training = TaskTraining(found, SETTINGS, 1)
    training.advance(6)
    predictions = training.predictions()
    assert found.few_shot is not None and predictions.few_shot is not None
    assert len(predictions.target_logits) == 5 < len(named)  # evaluation_samples does not cut these
    labels = torch.tensor([2, 1, 0, 1, 0, 0, 2])
    assert torch.equal(predictions.few_shot.labels, labels)
    samples = Samples(found.few_shot.unlabelled, torch.device("cpu"))
    expected, _ = predict(training.evaluated_model(), samples)
    assert torch.equal(predictions.few_shot.logits, expected)
    right = int((expected.argmax(dim=1) == labels).sum())
    assert score_all(["few_shot"], predictions) == {"few_shot": pytest.approx(right / 7)}


def test_nothing_is_trained_on_them(data: Data) -> None:
    plain = TaskTraining(data.load(), SETTINGS, 1)
    given = TaskTraining(data.load(data.few(["ant", "dog"])), SETTINGS, 1)
    for training in (plain, given):
        training.advance(6)
    for name, value in plain.evaluated_model().state_dict().items():
        assert torch.equal(given.evaluated_model().state_dict()[name], value), name
