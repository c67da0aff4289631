from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iimt_search.data.open import open_with_labels
from iimt_search.data.task import Domain, Labelled
from iimt_search.errors import DataError
from iimt_search.space.task_spec import DomainSpec


def saved(tmp_path: Path, x: Any, y: Any) -> Domain:
    np.savez(tmp_path / "a.npz", x=x, y=y)
    return open_with_labels(DomainSpec(arrays=str(tmp_path / "a.npz")), 0)


@pytest.mark.parametrize(
    ("y", "classes", "indices"),
    [
        (np.array([[3], [1], [2], [1]]), ("1", "2", "3"), [2, 0, 1, 0]),
        (np.array([[3, 1, 2, 1]]), ("1", "2", "3"), [2, 0, 1, 0]),
        (np.array([3.0, 1.0, 2.0, 1.0]), ("1", "2", "3"), [2, 0, 1, 0]),
        (np.array([1, -1, 1, -1]), ("-1", "1"), [1, 0, 1, 0]),
        (np.array([1.0, -1.0, 1.0, -1.0], np.float16), ("-1", "1"), [1, 0, 1, 0]),
        (np.array(["b", "a", "ž", "a"], dtype=object), ("a", "b", "ž"), [1, 0, 2, 0]),
        (np.array([["b"], ["a"], ["c"], ["a"]], dtype=object), ("a", "b", "c"), [1, 0, 2, 0]),
        (np.array([np.str_("b"), "a", b"c", "a"], dtype=object), ("a", "b", "c"), [1, 0, 2, 0]),
        (np.array([10, 9, 10, np.int64(2)], dtype=object), ("2", "9", "10"), [2, 1, 2, 0]),
        (np.array([10.0, 9, 10, 2], dtype=object), ("2", "9", "10"), [2, 1, 2, 0]),
        (np.array([300, 1, 300, 2], dtype=">u2"), ("1", "2", "300"), [2, 0, 2, 1]),
        (np.array([300, 1, 300, 2], dtype=">f4"), ("1", "2", "300"), [2, 0, 2, 1]),
        (np.array([b"b", b"\xe9", b"b", b"a"]), ("a", "b", "\\xe9"), [1, 2, 1, 0]),
        (np.eye(3)[[2, 0, 1, 0]], ("0", "1", "2"), [2, 0, 1, 0]),
    ],
)
def test_labels_in_every_form(tmp_path: Path, y: Any, classes: tuple[str, ...], indices: list[int]) -> None:
    domain = saved(tmp_path, np.ones((4, 2)), y)
    assert domain.classes == classes and isinstance(domain.train, Labelled)
    assert domain.train.y.tolist() == indices and domain.train.y.dtype == np.int64
    assert ("labels" in [note.kind for note in domain.notes]) == ("-1" in classes)
    assert not any(note.warning for note in domain.notes)
    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    np.save(tmp_path / "y.npy", y)
    beside = open_with_labels(DomainSpec(arrays=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy")), 0)
    assert beside.classes == classes


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


def test_code_in_labels_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"\(y\) holds Python objects that are not read: an object of pathlib"
    ):
        saved(tmp_path, np.ones((2, 2)), np.array([Hostile(), "a"], dtype=object))
    assert not Path("touched").exists()


def test_a_negative_label_among_several_is_warned_of(tmp_path: Path) -> None:
    domain = saved(tmp_path, np.ones((4, 2)), np.array([0, -1, 1, 0]))
    (note,) = [note for note in domain.notes if note.kind == "labels"]
    assert note.warning and "label -1 is taken for a class like any other" in note.message
