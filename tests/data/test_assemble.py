from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iimt_search.data.assemble import check_trainable, load_task, split_source
from iimt_search.data.open import open_domain
from iimt_search.data.task import DomainTask, Labelled
from iimt_search.errors import DataError
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec

Save = Callable[..., Path]


def samples(seed: int, count: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 2, 3)).astype(np.uint8)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(name: str, x: np.ndarray, y: Any = None) -> Path:
        path = tmp_path / f"{name}.npz"
        np.savez(path, x=x, **({} if y is None else {"y": np.asarray(y)}))
        return path

    return write


def names(count: int = 20) -> list[str]:
    return ["cat", "dog"] * (count // 2)


def spec(source: Path | list[Path], target: Path, test: Path | None = None) -> TaskSpec:
    sources = source if isinstance(source, list) else [source]
    wanted: dict[str, Any] = {
        "source": [{"arrays": str(s)} for s in sources],
        "target": {"arrays": str(target)},
    }
    if test is not None:
        wanted["target"]["test"] = str(test)
    return TaskSpec.model_validate(wanted)


def test_parts(save: Save) -> None:
    task = load_task(spec(save("a", samples(1), names()), save("b", samples(2))))
    assert (task.name, task.classes, task.kind) == ("a->b", ("cat", "dog"), "image")
    assert (task.augmentation, task.sample_shape) == ("image", (3, 2, 2))
    assert (len(task.source_train), len(task.source_val)) == (16, 4)
    assert np.array_equal(task.target.x, samples(2).transpose(0, 3, 1, 2))


def test_source_is_split_without_loss_or_overlap() -> None:
    whole = Labelled(samples(1).transpose(0, 3, 1, 2), np.arange(20) % 2)
    fit, val = split_source(whole)
    pairs = {(x.tobytes(), int(y)) for part in (fit, val) for x, y in zip(part.x, part.y, strict=True)}
    assert pairs == {(x.tobytes(), int(y)) for x, y in zip(whole.x, whole.y, strict=True)}
    assert len(fit) + len(val) == len(pairs) == 20
    assert np.bincount(fit.y).tolist() == [8, 8] and np.bincount(val.y).tolist() == [2, 2]


def test_test_parts_are_nowhere_in_a_task(save: Save) -> None:
    held = samples(3)
    task = load_task(spec(save("a", samples(1), names()), save("b", samples(2)), save("t", held, names())))
    seen = {x.tobytes() for part in (task.source_train, task.source_val, task.target) for x in part.x}
    assert len(seen) == 40
    assert not seen & {x.tobytes() for x in held.transpose(0, 3, 1, 2)}


def test_target_labels_change_nothing(save: Save) -> None:
    source = save("a", samples(1), names())
    (folder := source.parent / "blind").mkdir()
    np.savez(folder / "b.npz", x=samples(2))
    blind = load_task(spec(source, folder / "b.npz"))
    seeing = load_task(spec(source, save("b", samples(2), names())))
    assert seeing.fingerprint == blind.fingerprint
    assert np.array_equal(seeing.target.x, blind.target.x)


def test_no_attribute_can_carry_target_labels(save: Save) -> None:
    task = load_task(spec(save("a", samples(1), names()), save("b", samples(2), names())))
    assert vars(task).keys() == {field.name for field in fields(DomainTask)}
    assert vars(task.target).keys() == {"x", "index"}


@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize("index", [0, 7, 19])
def test_fingerprint_changes_with_a_pixel(save: Save, which: str, index: int) -> None:
    arrays = {"a": samples(1), "b": samples(2)}
    found = []
    for _ in range(2):
        task = load_task(spec(save("a", arrays["a"], names()), save("b", arrays["b"])))
        found.append(task.fingerprint)
        load_task.cache_clear()
        arrays[which][index, 0, 0, 0] ^= 1
    assert found[0] != found[1] and len(found[0]) == 64


def test_fingerprint_changes_with_a_source_label_a_class_name_and_the_share(save: Save) -> None:
    target = save("b", samples(2))
    swapped = [*names()[1:], "cat"]
    found = {
        load_task(spec(save("a", samples(1), names()), target)).fingerprint,
        load_task(spec(save("c", samples(1), swapped), target)).fingerprint,
        load_task(spec(save("d", samples(1), ["cat", "bird"] * 10), target)).fingerprint,
        load_task(spec(save("a", samples(1), names()), target), 0, 0.5).fingerprint,
    }
    assert len(found) == 4


def test_share_takes_the_same_part_every_time_class_by_class(save: Save) -> None:
    wanted = spec(save("a", samples(1, 100), names(100)), save("b", samples(2, 60)))
    task = load_task(wanted, 0, 0.5)
    load_task.cache_clear()
    assert np.array_equal(load_task(wanted, 0, 0.5).target.x, task.target.x)
    assert (len(task.source_train) + len(task.source_val), len(task.target)) == (50, 30)
    assert np.bincount(np.concatenate([task.source_train.y, task.source_val.y])).tolist() == [25, 25]
    whole = {x.tobytes() for x in load_task(wanted).target.x}
    assert {x.tobytes() for x in task.target.x} < whole


def test_several_sources_are_put_together_by_class_name(save: Save) -> None:
    first = save("a", samples(1), ["dog", "cat"] * 10)
    second = save("b", samples(2), ["cat", "fox"] * 10)
    task = load_task(spec([first, second], save("c", samples(3))))
    assert task.name == "a+b->c" and task.classes == ("cat", "dog", "fox")
    by_sample = {}
    for part in (task.source_train, task.source_val):
        by_sample.update({x.tobytes(): task.classes[y] for x, y in zip(part.x, part.y, strict=True)})
    expected = dict(
        zip([x.tobytes() for x in samples(1).transpose(0, 3, 1, 2)], ["dog", "cat"] * 10, strict=True)
    )
    expected |= dict(
        zip([x.tobytes() for x in samples(2).transpose(0, 3, 1, 2)], ["cat", "fox"] * 10, strict=True)
    )
    assert by_sample == expected


def test_what_does_not_fit_is_refused(save: Save) -> None:
    good, target = save("good", samples(1), names()), save("t", samples(2))
    with pytest.raises(DataError, match="classes fox are not among the source's \\(cat, dog\\)"):
        load_task(spec(good, save("fox", samples(2), ["cat", "fox"] * 10)))
    with pytest.raises(DataError, match="the source has no labels"):
        load_task(spec(save("bare", samples(1)), target))
    with pytest.raises(DataError, match="the source has 1 class, there is nothing to tell apart"):
        load_task(spec(save("one", samples(1), ["cat"] * 20), target))
    with pytest.raises(DataError, match="class 1 has one sample"):
        load_task(spec(save("single", samples(1), ["cat"] * 19 + ["dog"]), target))
    with pytest.raises(DataError, match="source is of kind image, target of kind vector"):
        load_task(spec(good, save("v", np.ones((20, 4), np.float32))))
    series = save("s", np.ones((20, 3, 9), np.float32), names())
    with pytest.raises(DataError, match=r"source samples are \(3, 9\), target samples \(2, 9\)"):
        load_task(spec(series, save("s2", np.ones((20, 2, 9), np.float32))))


def test_fewer_samples_than_a_batch(save: Save) -> None:
    task = load_task(spec(save("a", samples(1), names()), save("b", samples(2, 10))))
    check_trainable(task, TrainSettings(batch_size=10))
    with pytest.raises(
        DataError, match="target has 10 training samples, fewer than a batch of 12; set train"
    ):
        check_trainable(task, TrainSettings(batch_size=12))
    with pytest.raises(DataError, match="source has 16 training samples"):
        check_trainable(task, TrainSettings(batch_size=17))


def test_an_augmentation_for_another_kind(save: Save) -> None:
    wanted = spec(save("a", samples(1), names()), save("b", samples(2)))
    turned = wanted.model_copy(update={"target": wanted.target.model_copy(update={"augmentation": "series"})})
    with pytest.raises(DataError, match="augmentation series is for series, these samples are of kind image"):
        check_trainable(load_task(turned), TrainSettings(batch_size=8))


def test_nearly_the_whole_share(save: Save) -> None:
    task = load_task(spec(save("a", samples(1), names()), save("b", samples(2))), 0, 0.99)
    assert len(task.source_train) + len(task.source_val) == 18  # one sample of each class is left out


def test_a_network_for_another_kind(save: Save) -> None:
    task = load_task(spec(save("a", samples(1), names()), save("b", samples(2))))
    check_trainable(task, TrainSettings(batch_size=8, network="conv9-small"))
    with pytest.raises(DataError, match="network mlp takes samples of kind vector, these are of kind image"):
        check_trainable(task, TrainSettings(batch_size=8, network="mlp"))


def test_real_task() -> None:
    wanted = TaskSpec.model_validate("syn-digits -> digits")
    task = load_task(wanted, 8)
    assert task.name == "syn-digits->digits" and task.augmentation == "digits"
    assert (len(task.source_train) + len(task.source_val), len(task.target)) == (3000, 1347)
    assert task.source_train.x.dtype == task.target.x.dtype == np.uint8
    shares = [np.bincount(part.y) / len(part) for part in (task.source_train, task.source_val)]
    assert np.abs(shares[0] - shares[1]).max() < 0.002


def test_natural_size_is_the_larger_of_the_two(save: Save) -> None:
    assert load_task(TaskSpec.model_validate("digits->digits-m")).sample_shape == (3, 16, 16)
    large = save("large", np.zeros((20, 20, 24), np.uint8), ["1", "2"] * 10)
    mixed = TaskSpec.model_validate({"source": "digits", "target": {"arrays": str(large)}})
    assert load_task(mixed).sample_shape == (3, 24, 24)
    assert open_domain(mixed.target, 12).train.x.shape == (20, 3, 12, 12)
