from pathlib import Path

import numpy as np
import pytest

from iimt_search.data.assemble import load_task
from iimt_search.data.registry import load_domain
from iimt_search.data.sealed import open_sealed_target
from iimt_search.errors import DataError
from iimt_search.space.task_spec import TaskSpec


def test_labels_belong_to_the_samples_that_training_saw() -> None:
    spec = TaskSpec.model_validate("digits->digits-m")
    task = load_task(spec, 8)
    sealed = open_sealed_target(spec, task.classes, 8)
    domain = load_domain("digits-m", 8)
    assert sealed.train is not None and sealed.unseen
    assert np.array_equal(sealed.train.x, task.target.x)
    assert np.array_equal(sealed.train.y, domain.train.y)
    assert np.array_equal(sealed.test.x, domain.test.x) and np.array_equal(sealed.test.y, domain.test.y)


def write(path: Path, seed: int, y: list[str] | None) -> str:
    x = np.random.default_rng(seed).normal(size=(len(y or "12345678"), 5)).astype(np.float32)
    np.savez(path, x=x, **({} if y is None else {"y": np.array(y)}))
    return str(path)


def test_target_classes_are_put_into_the_sources_order(tmp_path: Path) -> None:
    source = write(tmp_path / "s.npz", 1, ["walk", "sit", "run", "sit", "run", "walk"] * 2)
    target = write(tmp_path / "t.npz", 2, ["walk", "walk", "sit", "walk"])
    spec = TaskSpec.model_validate({"source": {"arrays": source}, "target": {"arrays": target}})
    classes = load_task(spec).classes
    sealed = open_sealed_target(spec, classes)
    assert [classes[label] for label in sealed.test.y] == ["walk", "walk", "sit", "walk"]
    assert not sealed.unseen and sealed.train is sealed.test


def test_an_unlabelled_target_cannot_be_audited_unless_its_test_part_is(tmp_path: Path) -> None:
    source = write(tmp_path / "s.npz", 1, ["b", "a"] * 4)
    blind = write(tmp_path / "t.npz", 2, None)
    spec = TaskSpec.model_validate({"source": {"arrays": source}, "target": {"arrays": blind}})
    with pytest.raises(DataError, match="the target has no labels, there is nothing to audit with"):
        open_sealed_target(spec, ("a", "b"))
    test = write(tmp_path / "test.npz", 3, ["b", "b", "a"])
    spec = TaskSpec.model_validate({"source": {"arrays": source}, "target": {"arrays": blind, "test": test}})
    sealed = open_sealed_target(spec, ("a", "b"))
    assert sealed.train is None and sealed.unseen and sealed.test.y.tolist() == [1, 1, 0]
