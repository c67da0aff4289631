from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from iimt_search.data.task import DomainTask, Labelled, Unlabelled


def labelled(count: int) -> Labelled:
    x = np.arange(count * 12, dtype=np.uint8).reshape(count, 3, 2, 2)
    return Labelled(x, np.arange(count, dtype=np.int64))


def test_a_task_has_no_place_for_target_labels() -> None:
    kinds = {field.name: field.type for field in fields(DomainTask)}
    assert {name for name, kind in kinds.items() if kind is Labelled} == {"source_train", "source_val"}
    assert kinds["target"] is Unlabelled
    # Few-shot samples are labelled, and are the user's own gift: another set than the target.
    assert kinds["few_shot"] == Labelled | None
    assert set(kinds) - {"source_train", "source_val", "target", "few_shot"} == {
        "name",
        "classes",
        "kind",
        "augmentation",
        "fingerprint",
        "notes",
        "white_level",
    }
    assert [field.name for field in fields(Unlabelled)] == ["x", "index"]


def test_nothing_can_be_put_into_it_later() -> None:
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'y'"):
        Unlabelled(labelled(2).x).y = np.zeros(2)  # type: ignore[attr-defined]


def test_lengths() -> None:
    assert len(labelled(4)) == 4
    assert len(Unlabelled(labelled(3).x)) == 3
    assert len(labelled(0)) == 0


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x and y must have the same length, got 3 and 2"):
        Labelled(labelled(3).x, np.zeros(2, dtype=np.int64))


def test_subset_keeps_samples_and_labels_together() -> None:
    part = labelled(5).subset(np.array([4, 0, 0]))
    assert part.y.tolist() == [4, 0, 0]
    assert part.x[:, 0, 0, 0].tolist() == [48, 0, 0]


def test_sample_shape() -> None:
    part = labelled(2)
    task = DomainTask("a->b", ("0", "1"), "image", "digits", part, part, Unlabelled(part.x), "")
    assert task.sample_shape == (3, 2, 2)


def test_a_large_subset_stays_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = labelled(6)
    copied = whole.subset(np.array([5, 1, 1]))
    monkeypatch.setattr("iimt_search.data.task.COPY_LIMIT_BYTES", 1)
    view = whole.subset(np.array([5, 1, 1]))
    assert copied.index is None and view.index is not None and view.x is whole.x
    for part in (copied, view):
        assert (len(part), part.unlabelled.nbytes) == (3, 36)
        assert part.y.tolist() == [5, 1, 1]
        assert part.unlabelled.gather()[:, 0, 0, 0].tolist() == [60, 12, 12]
        again = part.subset(np.array([2, 0]))
        assert again.y.tolist() == [1, 5]
        assert again.unlabelled.rows(np.array([1]))[0, 0, 0, 0] == 60
