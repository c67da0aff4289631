from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pytest

from iimt_search.data import assemble
from iimt_search.data.assemble import load_task, split_source
from iimt_search.data.task import Domain, DomainTask, Labelled
from iimt_search.errors import DataError


def tiny_domain(seed: int, classes: tuple[str, ...] = ("cat", "dog")) -> Domain:
    rng = np.random.default_rng(seed)

    def part(count: int) -> Labelled:
        x = rng.integers(0, 256, (count, 3, 2, 2)).astype(np.uint8)
        return Labelled(x, np.arange(count, dtype=np.int64) % len(classes))

    return Domain(part(20), part(6), classes, f"augmentation-{seed}")


def task_of(domains: Mapping[str, Domain]) -> DomainTask:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "load_domain", lambda name, _size: domains[name])
        return load_task("a->b", 2)


@pytest.fixture
def domains() -> dict[str, Domain]:
    return {"a": tiny_domain(1), "b": tiny_domain(2)}


def with_pixel(part: Labelled, index: int) -> Labelled:
    x = part.x.copy()
    x[index, 0, 0, 0] ^= 1
    return Labelled(x, part.y)


def test_parts(domains: dict[str, Domain]) -> None:
    task = task_of(domains)
    assert task.name == "a->b"
    assert task.classes == ("cat", "dog")
    assert task.augmentation == "augmentation-2"
    assert task.sample_shape == (3, 2, 2)
    assert (len(task.source_train), len(task.source_val)) == (16, 4)
    assert np.array_equal(task.target.x, domains["b"].train.x)


def test_source_is_split_without_loss_or_overlap(domains: dict[str, Domain]) -> None:
    whole = domains["a"].train
    fit, val = split_source(whole)
    pairs = {(x.tobytes(), int(y)) for part in (fit, val) for x, y in zip(part.x, part.y, strict=True)}
    assert pairs == {(x.tobytes(), int(y)) for x, y in zip(whole.x, whole.y, strict=True)}
    assert len(fit) + len(val) == len(pairs) == 20
    assert np.bincount(fit.y).tolist() == [8, 8]
    assert np.bincount(val.y).tolist() == [2, 2]


def test_test_parts_are_nowhere_in_a_task(domains: dict[str, Domain]) -> None:
    task = task_of(domains)
    seen = {x.tobytes() for part in (task.source_train, task.source_val, task.target) for x in part.x}
    held = {x.tobytes() for domain in domains.values() for x in domain.test.x}
    assert len(seen) == 40
    assert not seen & held


def test_target_labels_change_nothing(domains: dict[str, Domain]) -> None:
    target = domains["b"]
    blind = replace(target, train=Labelled(target.train.x, np.zeros(20, dtype=np.int64)))
    with_labels, without = task_of(domains), task_of({**domains, "b": blind})
    assert with_labels.fingerprint == without.fingerprint
    assert np.array_equal(with_labels.target.x, without.target.x)


def test_no_attribute_can_carry_target_labels(domains: dict[str, Domain]) -> None:
    task = task_of(domains)
    assert vars(task).keys() == {field.name for field in fields(DomainTask)}
    assert vars(task.target).keys() == {"x"}


def test_fingerprint_repeats_itself(domains: dict[str, Domain]) -> None:
    fingerprint = task_of(domains).fingerprint
    assert fingerprint == task_of({"a": tiny_domain(1), "b": tiny_domain(2)}).fingerprint
    assert len(fingerprint) == 64


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("index", [0, 7, 19])
def test_fingerprint_changes_with_a_pixel(domains: dict[str, Domain], name: str, index: int) -> None:
    changed = replace(domains[name], train=with_pixel(domains[name].train, index))
    assert task_of({**domains, name: changed}).fingerprint != task_of(domains).fingerprint


def test_fingerprint_changes_with_a_source_label(domains: dict[str, Domain]) -> None:
    source = domains["a"]
    y = source.train.y.copy()
    y[[0, 1]] = y[[1, 0]]
    swapped = replace(source, train=Labelled(source.train.x, y))
    assert task_of({**domains, "a": swapped}).fingerprint != task_of(domains).fingerprint


def test_fingerprint_changes_with_class_names(domains: dict[str, Domain]) -> None:
    renamed = {name: replace(domain, classes=("cat", "bird")) for name, domain in domains.items()}
    assert task_of(renamed).fingerprint != task_of(domains).fingerprint


def test_fingerprint_does_not_see_the_memory_layout(domains: dict[str, Domain]) -> None:
    target = domains["b"].train
    fortran = replace(domains["b"], train=Labelled(np.asfortranarray(target.x), target.y))
    assert task_of({**domains, "b": fortran}).fingerprint == task_of(domains).fingerprint


def test_different_classes_are_refused(domains: dict[str, Domain]) -> None:
    other = tiny_domain(2, ("cat", "bird"))
    with pytest.raises(
        DataError, match=r"source classes \('cat', 'dog'\) are not target classes \('cat', 'bi"
    ):
        task_of({**domains, "b": other})


def test_unknown_domain() -> None:
    with pytest.raises(DataError, match="there is no domain 'mnist'"):
        load_task("digits->mnist", 8)


def test_bad_name() -> None:
    with pytest.raises(ValueError, match="a task is named 'source->target'"):
        load_task("digits", 8)


def test_real_task() -> None:
    task = load_task("syn-digits -> digits", 8)
    assert task.name == "syn-digits->digits"
    assert len(task.source_train) + len(task.source_val) == 3000
    assert len(task.target) == 1347
    assert task.source_train.x.dtype == task.target.x.dtype == np.uint8
    shares = [np.bincount(part.y) / len(part) for part in (task.source_train, task.source_val)]
    assert np.abs(shares[0] - shares[1]).max() < 0.002
    assert load_task("syn-digits->digits", 8).fingerprint == task.fingerprint
