from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iimt_search.data.assemble import image_forms, load_task, load_trainable, split_source
from iimt_search.data.open import open_domain
from iimt_search.data.task import DomainTask, Labelled
from iimt_search.errors import DataError
from iimt_search.space import Space
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
    with pytest.raises(
        DataError,
        match="class dog has one sample; every class needs at least 2 to be split: add some, or leave",
    ):
        load_task(spec(save("single", samples(1), ["cat"] * 19 + ["dog"]), target))
    with pytest.raises(DataError, match="source is of kind image, target of kind vector"):
        load_task(spec(good, save("v", np.ones((20, 4), np.float32))))
    series = save("s", np.ones((20, 3, 9), np.float32), names())
    with pytest.raises(DataError, match=r"source samples are \(3, 9\), target samples \(2, 9\)"):
        load_task(spec(series, save("s2", np.ones((20, 2, 9), np.float32))))
    with pytest.raises(DataError, match=r"target samples \(9, 3\); `channels: last` in one of them\?"):
        load_task(spec(series, save("s3", np.ones((20, 9, 3), np.float32))))


def space(search: dict[str, Any] | None = None, **train: Any) -> Space:
    content = {"schema": 1, "study": "s", "tasks": ["a->b"], "search": search or {}, "train": train}
    content["objective"] = "composite"  # consensus compares the same samples
    return Space.model_validate(content)


def test_fewer_samples_than_a_batch(save: Save) -> None:
    task = spec(save("a", samples(1), names()), save("b", samples(2, 10)))
    load_trainable(task, space(batch_size=10))
    told = "target has 10 training samples, fewer than a batch of 12; set train.batch_size to at most 10"
    with pytest.raises(DataError, match=told):
        load_trainable(task, space(batch_size=12))
    with pytest.raises(DataError, match="source has 16 training samples"):
        load_trainable(task, space(batch_size=17))


def test_an_augmentation_for_another_kind(save: Save) -> None:
    wanted = spec(save("a", samples(1), names()), save("b", samples(2)))
    turned = wanted.model_copy(update={"target": wanted.target.model_copy(update={"augmentation": "series"})})
    with pytest.raises(DataError, match="augmentation series is for series, these samples are of kind image"):
        load_trainable(turned, space(batch_size=8))


def test_nearly_the_whole_share(save: Save) -> None:
    task = load_task(spec(save("a", samples(1), names()), save("b", samples(2))), 0, 0.99)
    assert len(task.source_train) + len(task.source_val) == 18  # one sample of each class is left out


def test_a_network_for_another_kind(save: Save) -> None:
    task = spec(save("a", samples(1), names()), save("b", samples(2)))
    load_trainable(task, space(batch_size=8, network="conv9-small"))
    with pytest.raises(DataError, match="network mlp takes samples of kind vector, these are of kind image"):
        load_trainable(task, space(batch_size=8, network="mlp"))


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


def test_every_searched_value_is_looked_at_and_the_advice_can_be_followed(save: Save) -> None:
    task = spec(save("a", samples(1, 30), names(30)), save("b", samples(2, 30)))
    for searched in ({"choices": [8, 32, 16]}, {"low": 8, "high": 32}):
        told = "source has 24 .*fewer than a batch of 32; give search.batch_size values of at most 24"
        with pytest.raises(DataError, match=told):
            load_trainable(task, space({"batch_size": searched}))
    fitting = space({"batch_size": {"choices": [8, 24, 16]}})
    load_trainable(task, fitting)  # although the default batch, which nothing could set, is 64
    assert fitting.baseline.batch_size == 24
    load_trainable(task, space({"batch_size": {"low": 8, "high": 24}}))
    with pytest.raises(
        DataError, match="let search.network choose among auto, small, conv9-small, conv9-large"
    ):
        load_trainable(task, space({"network": {"choices": ["small", "mlp"]}}, batch_size=8))
    told = "source has 10 .*at most 10, or use more of them than the data_fraction of 0.4"
    with pytest.raises(DataError, match=told):
        load_trainable(task, space({"data_fraction": {"low": 0.4, "high": 1}}, batch_size=11))
    with pytest.raises(
        DataError,
        match="class cat, dog has one sample; .* or use more of them than the data_fraction of 0.05",
    ):
        load_trainable(task, space({"data_fraction": {"choices": [1.0, 0.05]}}, batch_size=8))


def test_series_too_short_for_a_network(save: Save) -> None:
    x = np.random.default_rng(0).normal(size=(20, 50, 2))
    task = spec(save("a", x, names()), save("b", x))
    with pytest.raises(
        DataError, match="of 2 steps are too short, .* if they are 50 steps of 2 channels, say"
    ):
        load_trainable(task, space(batch_size=8))
    domain = {"channels": "last"}
    source, target = task.source[0].model_copy(update=domain), task.target.model_copy(update=domain)
    turned = task.model_copy(update={"source": (source,), "target": target})
    assert load_trainable(turned, space(batch_size=8)).sample_shape == (2, 50)


def test_sizes_that_are_prepared_before_a_search() -> None:
    assert [form.size for form in image_forms(space(image_size=9))] == [
        9,
    ]
    assert [form.size for form in image_forms(space({"image_size": {"choices": [16, 32, 16]}}))] == [16, 32]
    assert [form.size for form in image_forms(space({"image_size": {"low": 16, "high": 512}}))] == [
        16,
    ]


def test_the_baselines_batch_is_a_searched_one() -> None:
    assert space(batch_size=9).baseline.batch_size == 9
    for searched, size in (
        ({"choices": [8, 64, 128]}, 64),
        ({"choices": [100, 128]}, 100),
        ({"low": 8, "high": 24}, 24),
        ({"low": 65, "high": 90}, 65),
        ({"low": 8, "high": 90}, 64),
    ):
        assert space({"batch_size": searched}).baseline.batch_size == size


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, save: Save) -> None:
    wanted = spec([tmp_path / "one.npz", save("a", np.ones((9, 2, 2, 3)) * 900)], tmp_path / "two.npz")
    with pytest.raises(DataError, match="3 things are wrong") as caught:
        load_task(wanted, 8)
    assert [cause.split(tmp_path.name)[1][:6] for cause in caught.value.causes] == [
        "/one.n",
        "/a.npz",
        "/two.n",
    ]
    flat = spec([save("f", samples(3)), save("g", samples(4))], save("b", samples(2)))
    with pytest.raises(DataError, match="2 things are wrong"):
        load_task(flat)
