import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from iimt_search.data.task import Unlabelled
from iimt_search.errors import DataError
from iimt_search.inspect.check import (
    MEASURED,
    Finding,
    TaskCheck,
    check_json,
    count_shared,
    summarise,
)
from iimt_search.inspect.check import check_task as check_in_space
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec

RNG = np.random.default_rng(0)


def vectors(count: int, features: int = 3) -> NDArray[np.float32]:
    return RNG.normal(size=(count, features)).astype(np.float32)


def task(folder: Path, source: dict[str, Any], target: dict[str, Any], test: Any = None) -> TaskSpec:
    """Write arrays and return the task of them."""
    np.savez(folder / "source.npz", **source)
    np.savez(folder / "target.npz", **target)
    spec: dict[str, Any] = {"arrays": str(folder / "target.npz")}
    if test is not None:
        np.savez(folder / "test.npz", **test)
        spec["test"] = str(folder / "test.npz")
    source_spec = {"arrays": str(folder / "source.npz")}
    return TaskSpec.model_validate({"name": "mine", "source": [source_spec], "target": spec})


def check_task(spec: TaskSpec, image_size: int = 0, **train: Any) -> TaskCheck:
    content = {"schema": 1, "study": "check", "tasks": [spec], "search": train.pop("search", {})}
    return check_in_space(
        spec, Space.model_validate({**content, "train": {"image_size": image_size, **train}})
    )


def kinds(check: TaskCheck) -> list[str]:
    return [finding.kind for finding in check.findings]


def message(check: TaskCheck, kind: str) -> str:
    (found,) = [finding.message for finding in check.findings if finding.kind == kind]
    return found


def two_classes(count: int) -> NDArray[np.int64]:
    return np.arange(count) % 2


@pytest.mark.parametrize("shape", [(5, 2), (300, 3, 7), (40, 3, 4, 5)])
def test_summary_is_numpys(shape: tuple[int, ...]) -> None:
    x = (RNG.normal(size=shape) * 50 + 100).astype(np.float32)
    found = summarise(Unlabelled(x))
    over = tuple(axis for axis in range(x.ndim) if axis != 1)
    assert (found.low, found.high) == (x.min(), x.max())
    assert found.means == pytest.approx(x.astype(np.float64).mean(axis=over))
    assert found.deviations == pytest.approx(x.astype(np.float64).std(axis=over))
    assert found.constant == ()


def test_summary_by_hand() -> None:
    x = np.zeros((2, 2, 1, 2), dtype=np.uint8)
    x[:, 0] = [[[0, 2]], [[4, 6]]]
    x[:, 1] = 7
    found = summarise(Unlabelled(x))
    assert (found.low, found.high, found.means) == (0, 7, (3, 7))
    assert found.deviations == pytest.approx((5**0.5, 0)) and found.constant == (1,)


def test_summary_reads_evenly_spaced_samples_of_the_meant_ones() -> None:
    x = np.arange(10 * MEASURED, dtype=np.float32)[:, None]
    found = summarise(Unlabelled(x))
    assert (found.low, found.high) == (0, 10 * MEASURED - 1)
    assert found.means[0] == pytest.approx((10 * MEASURED - 1) / 2)
    assert summarise(Unlabelled(x, np.array([3, 5]))).means == (4,)


def test_shared_samples_are_those_of_the_second_that_the_first_has() -> None:
    x = vectors(300)
    first = Unlabelled(x)
    assert count_shared(first, Unlabelled(vectors(300))) == 0
    assert count_shared(first, Unlabelled(x[[0, 0, 299, 150]])) == 4
    assert count_shared(Unlabelled(x[[0, 0, 0]]), first) == 1
    assert count_shared(Unlabelled(x, np.array([1, 2])), Unlabelled(x, np.array([2, 3]))) == 1


def test_embedded_task_is_clean() -> None:
    check = check_task(TaskSpec.model_validate("digits->digits-m"), 8, batch_size=64)
    assert check.findings == ()
    assert (check.kind, check.sample_shape, check.augmentation) == ("image", (3, 8, 8), "digits")
    assert list(check.source_classes) == list("0123456789")
    assert sum(check.source_classes.values()) == check.source_train + check.source_val == 1347
    assert (check.target, check.target_test) == (1347, 450)
    assert (check.source_duplicates, check.target_duplicates) == (0, 0)
    assert len(check.source_values.means) == 3 and check.source_values.high <= 255


def test_share_is_what_training_would_use() -> None:
    check = check_task(TaskSpec.model_validate("digits->digits-m"), 8, data_fraction=0.1)
    assert check.source_train + check.source_val == 135 and check.target == 135


def test_imbalance_and_small_classes(tmp_path: Path) -> None:
    y = np.array([0] * 89 + [1] * 8)
    check = check_task(task(tmp_path, {"x": vectors(97), "y": y}, {"x": vectors(80)}), batch_size=8)
    assert kinds(check) == ["imbalance", "small-class"]
    assert "'0' has 89 samples, class '1' 8" in message(check, "imbalance")
    assert message(check, "small-class").endswith("'1' (8)")
    assert check.source_classes == {"0": 89, "1": 8}


def test_ten_times_as_many_are_no_imbalance_and_ten_samples_are_not_few(tmp_path: Path) -> None:
    y = np.array([0] * 100 + [1] * 10)
    check = check_task(task(tmp_path, {"x": vectors(110), "y": y}, {"x": vectors(80)}), batch_size=8)
    assert check.findings == ()


def test_class_without_source_samples(tmp_path: Path) -> None:
    source = {"x": vectors(40), "y": two_classes(40)}
    spec = task(tmp_path, source, {"x": vectors(40)})
    np.savez(tmp_path / "more.npz", x=vectors(3), y=np.array([0, 1, 2]))
    domain = spec.source[0].model_copy(update={"test": str(tmp_path / "more.npz")})
    check = check_task(spec.model_copy(update={"source": (domain,)}), batch_size=8)
    assert check.source_classes == {"0": 20, "1": 20, "2": 0}
    assert kinds(check) == ["small-class"] and "'2' (0)" in message(check, "small-class")


def test_fewer_samples_than_a_batch(tmp_path: Path) -> None:
    spec = task(tmp_path, {"x": vectors(100), "y": two_classes(100)}, {"x": vectors(30)})
    assert check_task(spec, batch_size=30).findings == ()
    assert "target has 30 training samples" in message(check_task(spec, batch_size=31), "batch")
    assert kinds(check_task(spec, batch_size=81)) == ["batch", "batch"]


def test_constant_channels(tmp_path: Path) -> None:
    x = vectors(100)
    x[:, 1] = 4
    target = vectors(80)
    target[:, 1] = 4
    target[:, 2] = 0
    check = check_task(task(tmp_path, {"x": x, "y": two_classes(100)}, {"x": target}), batch_size=8)
    assert [finding.message for finding in check.findings] == [
        "the same value in every source sample: channel 1",
        "the same value in every target sample: channel 1, 2",
    ]


@pytest.mark.parametrize(("distance", "warned"), [(4.0, []), (6.0, ["far"])])
def test_target_far_outside_of_the_source(distance: float, warned: list[str], tmp_path: Path) -> None:
    x = np.tile(np.array([[-1.0], [1.0]], dtype=np.float32), (50, 2)) + vectors(100, 2) * 1e-3
    target = x.copy()
    target[:, 1] += distance
    check = check_task(task(tmp_path, {"x": x, "y": two_classes(100)}, {"x": target}), batch_size=8)
    # Each class has one sign only, so both parts of the stratified split have mean 0 and deviation 1.
    assert kinds(check) == warned
    assert not warned or "channel 1 (source mean" in message(check, "far")


@pytest.mark.parametrize("turned", [False, True])
def test_units_are_compared_both_ways_round(turned: bool, tmp_path: Path) -> None:
    shares, counts = RNG.random((60, 8, 8, 1)), RNG.random((60, 8, 8, 1)) * 16
    source, target = (counts, shares) if turned else (shares, counts)
    spec = task(tmp_path, {"x": source, "y": two_classes(60)}, {"x": target})
    check = check_task(spec, batch_size=8)
    assert {"scale", "few-levels", "far"} <= set(kinds(check))
    assert "`white_level` of either" in message(check, "scale")
    whole = spec.source[0] if turned else spec.target
    said = whole.model_copy(update={"white_level": 16})
    spec = spec.model_copy(update={"source": (said,)} if turned else {"target": said})
    assert kinds(check_task(spec, batch_size=8)) == ["scale"]


@pytest.mark.parametrize("factor", [9.81, 1 / 9.81])
def test_spreads_are_compared_both_ways_round(factor: float, tmp_path: Path) -> None:
    x = vectors(100, 2)
    check = check_task(task(tmp_path, {"x": x, "y": two_classes(100)}, {"x": x * factor}), batch_size=8)
    assert kinds(check) == ["spread"] and "0 (source deviation" in message(check, "spread")


def test_long_lists_are_cut(tmp_path: Path) -> None:
    target = vectors(80, 30) + 100
    check = check_task(
        task(tmp_path, {"x": vectors(100, 30), "y": two_classes(100)}, {"x": target}), batch_size=8
    )
    assert " and 20 more; " in message(check, "far")


def test_duplicates(tmp_path: Path) -> None:
    x, target = vectors(100), vectors(80)
    x[:] = x[0]
    test = {"x": np.concatenate([target[:5], vectors(4)]), "y": np.arange(9) % 2}
    spec = task(tmp_path, {"x": x, "y": two_classes(100)}, {"x": target}, test)
    check = check_task(spec, batch_size=8)
    assert (check.source_duplicates, check.target_duplicates, check.target_test) == (20, 5, 9)
    told = [finding.message for finding in check.findings if finding.kind == "duplicates"]
    assert told[0].startswith("20 of 20 source validation samples")
    assert told[1].startswith("5 of 9 target test samples")


def test_source_samples_that_are_the_targets_are_told(tmp_path: Path) -> None:
    x, target = vectors(100), vectors(80)
    x[:7], x[7:10] = target[:7], (test := vectors(9))[:3]
    spec = task(tmp_path, {"x": x, "y": two_classes(100)}, {"x": target}, {"x": test})
    told = [
        finding.message for finding in check_task(spec, batch_size=8).findings if finding.kind == "shared"
    ]
    assert told == [
        "7 of 100 source samples are target samples, too, and trained on with their labels: scores flatter",
        "3 of 100 source samples are target test samples, too, and trained on with their labels: the audit "
        "flatters",
    ]


def test_domains_that_are_the_same_files_are_told(tmp_path: Path) -> None:
    source = {"x": vectors(100), "y": two_classes(100)}
    spec = task(tmp_path, source, {"x": source["x"]})
    told = [f for f in check_task(spec, batch_size=8).findings if f.kind in ("same", "shared")]
    assert [finding.kind for finding in told] == ["same"]
    assert told[0].message.endswith(" are the same 100 samples; is that meant?")
    twice = spec.model_copy(update={"source": (*spec.source, *spec.source)})
    assert [f.kind for f in check_task(twice, batch_size=8).findings].count("same") == 2  # each once


def images(folder: Path, side: int, count: int = 12) -> None:
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for index in range(count):
            pixels = RNG.integers(0, 255, (side, side + 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")


@pytest.mark.parametrize(("side", "warned"), [(32, 0), (33, 2)])
def test_enlarged_folders_are_measured_by_their_files(side: int, warned: int, tmp_path: Path) -> None:
    images(tmp_path / "a", 16)
    images(tmp_path / "b", 16)
    domains = {"source": [{"folder": str(tmp_path / "a")}], "target": {"folder": str(tmp_path / "b")}}
    check = check_task(TaskSpec.model_validate({"name": "folders", **domains}), side, batch_size=8)
    assert kinds(check) == ["enlarged"] * warned
    assert not warned or "images of a are enlarged from 16 to 33 pixels" in check.findings[0].message


def test_enlarged_named_domains() -> None:
    check = check_task(TaskSpec.model_validate("digits->digits-m"), 33)
    assert kinds(check) == ["enlarged", "enlarged"]


def test_target_labels_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "iimt_search.data.sealed", None)  # importing it is now an error
    x, source = vectors(60), {"x": vectors(60), "y": two_classes(60)}
    test_x = vectors(10)
    found = []
    for name, y, test_y in [
        ("balanced", two_classes(60), two_classes(10)),
        ("one", np.zeros(60, dtype=np.int64), np.ones(10, dtype=np.int64)),
        ("none", None, None),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        target = {"x": x} if y is None else {"x": x, "y": y}
        test = {"x": test_x} if test_y is None else {"x": test_x, "y": test_y}
        check = check_task(task(folder, source, target, test), batch_size=8)
        found.append(replace(check, notes=tuple(note.replace(f"/{name}/", "/") for note in check.notes)))
    assert found[0] == found[1] == found[2]


def test_target_labels_are_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check receives of the target's labelled test part is read without its y."""
    from iimt_search.inspect import check as data_check

    spec = task(
        tmp_path,
        {"x": vectors(60), "y": two_classes(60)},
        {"x": vectors(60)},
        {"x": vectors(8), "y": two_classes(8)},
    )
    opened = data_check.open_domain

    def guarded(*arguments: Any) -> Any:
        domain = opened(*arguments)
        assert type(domain.test) is Unlabelled
        object.__delattr__(domain, "train")
        return domain

    monkeypatch.setattr(data_check, "open_domain", guarded)
    assert check_task(spec, batch_size=8).target_test == 8


def test_json_has_all_and_no_target_classes() -> None:
    check = check_task(TaskSpec.model_validate("digits->digits-m"), 8, batch_size=5000)
    content = json.loads(json.dumps(check_json(check)))
    assert content["source"]["classes"]["0"] == check.source_classes["0"]
    assert content["target"].keys() == {
        "train",
        "test",
        "duplicates",
        "range",
        "means",
        "deviations",
        "constant",
    }
    assert [Finding(**row) for row in content["warnings"]] == list(check.findings) != []


def test_searched_values_that_cannot_be_trained(tmp_path: Path) -> None:
    spec = task(tmp_path, {"x": vectors(100), "y": two_classes(100)}, {"x": vectors(30)})
    check = check_task(
        spec, search={"batch_size": {"choices": [8, 32]}, "network": {"choices": ["mlp", "series"]}}
    )
    assert message(check, "batch").endswith("give search.batch_size values of at most 30; a run refuses")
    assert "let search.network choose among auto, mlp" in message(check, "network")
    assert kinds(check_task(spec, batch_size=8, network="small")) == ["network"]


def test_a_task_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    spec = task(tmp_path, {"x": vectors(60), "y": two_classes(60)}, {"x": vectors(60, 4)})
    with pytest.raises(DataError, match=r"source samples are \(3,\), target samples \(4,\)"):
        check_task(spec)
