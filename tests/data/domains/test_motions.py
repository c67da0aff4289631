import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from iimt_search.data.domains import motions
from iimt_search.data.domains.motions import CLASSES, parse, turn
from iimt_search.data.task import Domain, Labelled
from iimt_search.errors import DataError

HEADER = """\
#The data was generated as part of a student project: walking, resting, running
#and badminton.
@problemName BasicMotions
@timeStamps false
@missing false
@univariate false
@dimensions 6
@equalLength true
@seriesLength 100
@classLabel true Standing Running Walking Badminton
@data
"""


def recordings(seed: int) -> tuple[NDArray[np.float64], list[str]]:
    values = np.random.default_rng(seed).normal(0, 5, (40, 6, 100)).round(6)
    return values, [name for name in CLASSES for _ in range(10)]


def ts(values: NDArray[np.float64], labels: list[str]) -> str:
    lines = []
    for sample, label in zip(values, labels, strict=True):
        channels = [",".join(str(value) for value in channel) for channel in sample]
        lines.append(":".join([*channels, label]))
    return HEADER + "\n".join(lines) + "\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder that cannot be imported, with the two files where aeon has them."""
    monkeypatch.delitem(sys.modules, "aeon", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "aeon" / "datasets" / "data" / "BasicMotions"
    folder.mkdir(parents=True)
    (tmp_path / "aeon" / "__init__.py").write_text("raise ImportError('aeon must not be imported')")
    for seed, part in enumerate(("TRAIN", "TEST")):
        (folder / f"BasicMotions_{part}.ts").write_text(ts(*recordings(seed)))
    return folder


def all_of(domain: Domain) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    assert isinstance(domain.train, Labelled) and isinstance(domain.test, Labelled)
    return np.concatenate([domain.train.x, domain.test.x]), np.concatenate([domain.train.y, domain.test.y])


def test_parse() -> None:
    values, labels = recordings(0)
    parsed = parse(ts(values, labels))
    assert (parsed.x.dtype, parsed.y.dtype) == (np.float32, np.int64)
    assert np.array_equal(parsed.x, values.astype(np.float32))
    assert [CLASSES[label] for label in parsed.y] == labels


@pytest.mark.parametrize("build", [motions.build, motions.build_turned])
def test_shapes_types_and_counts(package: Path, build: type) -> None:
    domain: Domain = build(0)
    for part, count in ((domain.train, 28), (domain.test, 12)):
        assert isinstance(part, Labelled)
        assert (part.x.dtype, part.x.shape) == (np.float32, (count, 6, 100))
        assert (part.y.dtype, part.y.shape) == (np.int64, (count,))
        assert np.bincount(part.y).tolist() == [count // 4] * 4
    assert domain.classes == ("Standing", "Running", "Walking", "Badminton")
    assert (domain.kind, domain.augmentation) == ("series", "series")


def test_motions_are_the_recordings_of_the_training_file(package: Path) -> None:
    x, y = all_of(motions.build(0))
    values, labels = recordings(0)
    expected = {
        sample.astype(np.float32).tobytes(): label for sample, label in zip(values, labels, strict=True)
    }
    assert {sample.tobytes(): CLASSES[label] for sample, label in zip(x, y, strict=True)} == expected


def test_turned_ones_are_those_of_the_test_file(package: Path) -> None:
    x, y = all_of(motions.build_turned(0))
    values, labels = recordings(1)
    turned = turn(values.astype(np.float32))
    expected = {sample.tobytes(): label for sample, label in zip(turned, labels, strict=True)}
    assert {sample.tobytes(): CLASSES[label] for sample, label in zip(x, y, strict=True)} == expected


def test_the_same_every_time(package: Path) -> None:
    for build in (motions.build, motions.build_turned):
        for first, second in zip(all_of(build(0)), all_of(build(32)), strict=True):
            assert np.array_equal(first, second)


def test_turn_by_hand() -> None:
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 6, 2)
    # (x, y, z) becomes (−x, z, y), for the accelerometer and for the gyroscope, at every time.
    assert turn(x).tolist() == [[[-1, -2], [5, 6], [3, 4], [-7, -8], [11, 12], [9, 10]]]
    assert turn(x).dtype == np.float32


def test_turning_is_a_rotation() -> None:
    matrix = motions._TURN.astype(float)
    assert np.array_equal(matrix @ matrix.T, np.eye(3))
    assert np.linalg.det(matrix) == pytest.approx(1)
    x = np.random.default_rng(0).normal(size=(3, 6, 20)).astype(np.float32)
    for sensor in (slice(0, 3), slice(3, 6)):
        lengths = np.linalg.norm(x[:, sensor], axis=1)
        assert np.allclose(np.linalg.norm(turn(x)[:, sensor], axis=1), lengths)
    assert np.abs(turn(x) - x).max() > 0.1


def test_absent_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motions, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"aeon packages: pip install 'iimt-search\[series\]'"):
        motions.build(0)


def test_a_package_without_the_file(package: Path) -> None:
    (package / "BasicMotions_TEST.ts").unlink()
    motions.build(0)
    with pytest.raises(DataError, match=r"has no .*/BasicMotions_TEST\.ts"):
        motions.build_turned(0)


LINE = ts(*recordings(0)).splitlines()[11]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ValueError"),
        (HEADER, "no sample follows @data"),
        (
            HEADER + LINE + "\n" + LINE.replace("Standing", "Sitting"),
            "line 13: class 'Sitting' is none of Standing,",
        ),
        (HEADER + LINE[: len(LINE) // 2], "line 12: class '.*' is none of"),
        (HEADER + LINE.split(":", 1)[1], r"line 12: 6 channels of 100 values expected, got \[100"),
        (HEADER + LINE.split(",", 1)[1], r"line 12: 6 channels of 100 values expected, got \[99, 100"),
        (HEADER + "?," + LINE.split(",", 1)[1], "could not convert string to float: .*'[?]'"),
        (HEADER + "NaN," + LINE.split(",", 1)[1], "line 12: a value is missing or infinite"),
    ],
)
def test_a_damaged_file_is_named(package: Path, text: str, message: str) -> None:
    path = package / "BasicMotions_TRAIN.ts"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"{path} cannot be read, it is damaged or cut short .*{message}"):
        motions.build(0)


@pytest.mark.skipif(importlib.util.find_spec("aeon") is None, reason="aeon is not installed")
def test_the_real_recordings() -> None:
    (x, y), (turned, labels) = all_of(motions.build(0)), all_of(motions.build_turned(0))
    assert x.shape == turned.shape == (40, 6, 100)
    assert np.bincount(y).tolist() == np.bincount(labels).tolist() == [10] * 4
    # Who stands feels less than who runs.
    for samples, classes in ((x, y), (turned, labels)):
        spread = [samples[classes == c, :3].std() for c in range(4)]
        assert spread[0] < spread[2] < spread[1]
    assert not {sample.tobytes() for sample in turn(x)} & {sample.tobytes() for sample in turned}
