import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from iimt_search.data.arrays import open_array
from iimt_search.data.open import open_with_labels
from iimt_search.data.task import Domain, Labelled, Unlabelled
from iimt_search.errors import DataError
from iimt_search.space.task_spec import DomainSpec

RNG = np.random.default_rng(0)


def saved(tmp_path: Path, x: Any, y: Any = None, **more: Any) -> Domain:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=x, **({} if y is None else {"y": y}))
    return open_with_labels(DomainSpec.model_validate({"arrays": str(path), **more}), 6)


@pytest.mark.parametrize(
    "shape",
    [(5, 6, 6), (5, 6, 6, 1), (5, 6, 6, 3), (5, 3, 6, 6), (5, 1, 6, 6)],
    ids=lambda s: "x".join(map(str, s)),
)
def test_images_of_every_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    domain = saved(tmp_path, x)
    assert domain.kind == "image" and isinstance(domain.train, Unlabelled)
    assert domain.train.x.shape == (5, 3, 6, 6)
    if x.ndim == 3:
        expected = np.repeat(x[:, None], 3, axis=1)
    elif shape[1] in (1, 3):
        expected = np.broadcast_to(x, (5, 3, 6, 6))
    else:
        expected = np.broadcast_to(x.transpose(0, 3, 1, 2), (5, 3, 6, 6))
    assert np.array_equal(domain.train.x, expected)


def test_images_of_every_value_type(tmp_path: Path) -> None:
    grey = np.arange(0, 36, dtype=np.int64).reshape(1, 6, 6)
    for x in (grey, grey.astype(np.int16), (grey * 257).astype(np.uint16)):
        values = saved(
            tmp_path, np.concatenate([x, x * 0 + x.max() // 35 * 100 if x.dtype == np.uint16 else x])
        )
        assert values.train.x[0, 0].tolist() == grey[0].tolist()
    as_share = saved(tmp_path, (grey / 255)[..., None].astype(np.float32))
    assert as_share.train.x[0, 0].tolist() == grey[0].tolist()


def test_images_are_resized(tmp_path: Path) -> None:
    domain = saved(tmp_path, np.full((2, 12, 20, 3), 9, np.uint8))
    assert domain.train.x.shape == (2, 3, 6, 6) and np.unique(domain.train.x).tolist() == [9]


def test_series_and_vectors(tmp_path: Path) -> None:
    series = saved(tmp_path, RNG.normal(size=(4, 3, 50)))
    assert (series.kind, series.augmentation, series.train.x.dtype) == ("series", "series", np.float32)
    assert series.train.x.shape == (4, 3, 50)
    vectors = saved(tmp_path, RNG.integers(0, 9, (4, 7)))
    assert (vectors.kind, vectors.augmentation, vectors.train.x.dtype) == ("vector", "noise", np.float32)
    forced = saved(tmp_path, RNG.integers(0, 9, (4, 3, 7)), kind="series")
    assert forced.kind == "series"


@pytest.mark.parametrize("file", ["npz", "npy"])
@pytest.mark.parametrize("shape", [(5, 7), (40, 3, 50), (6, 8, 8, 3)])
def test_fortran_order(
    tmp_path: Path, file: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iimt_search.data.arrays._CHUNK_BYTES", 1000)
    x = RNG.random(shape)
    expected = saved(tmp_path, x).train.x
    path = tmp_path / f"f.{file}"
    np.savez(path, x=np.asfortranarray(x)) if file == "npz" else np.save(path, np.asfortranarray(x))
    domain = open_with_labels(DomainSpec(arrays=str(path)), 6)
    assert np.array_equal(domain.train.x, expected)
    path.write_bytes(path.read_bytes()[: -8 * x.size // 2] if file == "npy" else b"")
    with pytest.raises(DataError, match=rf"f\.{file}"):
        open_with_labels(DomainSpec(arrays=str(path)), 6)


def test_labels_may_be_left_unread(tmp_path: Path) -> None:
    domain = saved(tmp_path, np.ones((4, 2)), np.array([0.5, 1, 2, 3]), labelled=False)
    assert domain.classes is None and isinstance(domain.train, Unlabelled)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">i4", "i2", "u4"])
def test_images_of_12_bits_in_any_type(tmp_path: Path, dtype: str) -> None:
    x = RNG.integers(0, 4096, (5, 6, 6)).astype(dtype)
    x[0, 0, 0] = 4095
    domain = saved(tmp_path, x)
    assert domain.white_level == 4095
    assert np.array_equal(domain.train.x[:, 0], np.round(x.astype(float) * 255 / 4095))
    assert "4095 becomes white, unless `white_level` says otherwise" in " ".join(
        n.message for n in domain.notes
    )
    np.savez(tmp_path / "dark.npz", x=x // 100)
    both = saved(tmp_path, x, test=str(tmp_path / "dark.npz"))
    assert both.test is not None and np.array_equal(both.test.x[:, 0], np.round((x // 100) * 255 / 4095))


def test_images_of_floats_and_switches(tmp_path: Path) -> None:
    domain = saved(tmp_path, RNG.random((5, 6, 6, 1)).astype(">f4") * 16, white_level=16)
    assert domain.train.x.max() > 250 and domain.white_level == 16.0
    assert np.unique(saved(tmp_path, RNG.random((5, 6, 6, 1)) > 0.5).train.x).tolist() == [0, 255]
    assert saved(tmp_path, np.full((5, 6, 6), 4, np.uint8), white_level=16).train.x.max() == 64


def taken(domain: Domain) -> tuple[str, bool]:
    (note,) = [note for note in domain.notes if note.kind == "taken-for"]
    return note.message.split(" taken for ")[1], note.warning


@pytest.mark.parametrize(
    ("x", "more", "what", "warned"),
    [
        (
            RNG.normal(size=(9, 6, 128)),
            {},
            "series of 6 channels with 128 steps; `channels: last` says 128 ",
            False,
        ),
        (
            RNG.normal(size=(9, 128, 6)),
            {},
            "series of 128 channels with 6 steps; this is likely a mistake; ",
            True,
        ),
        (
            RNG.normal(size=(9, 128, 6)),
            {"channels": "last"},
            "series of 6 channels with 128 steps; `channels: f",
            False,
        ),
        (
            RNG.normal(size=(9, 128, 6)),
            {"channels": "first"},
            "series of 128 channels with 6 steps; `channels",
            False,
        ),
        (
            RNG.random((9, 28, 28)),
            {},
            "series of 28 channels with 28 steps; this is likely a mistake; `channels: ",
            True,
        ),
        (
            RNG.random((9, 24, 32)),
            {},
            "series of 24 channels with 32 steps; this is likely a mistake; `channels: ",
            True,
        ),
        (
            RNG.random((9, 28, 28)),
            {"kind": "image"},
            "images of 28 × 28 pixels in grey; `kind: series` says",
            False,
        ),
        (
            RNG.integers(0, 99, (9, 6, 128)),
            {},
            "images of 6 × 128 pixels in grey; this is likely a mistake",
            True,
        ),
        (
            RNG.integers(-9, 99, (9, 6, 128)),
            {"kind": "series"},
            "series of 6 channels with 128 steps; `cha",
            False,
        ),
        (
            RNG.integers(0, 99, (9, 20, 28)),
            {},
            "images of 20 × 28 pixels in grey; `kind: series` says series",
            False,
        ),
        (
            RNG.integers(0, 99, (9, 3, 20, 28)),
            {},
            "images of 20 × 28 pixels in colour; `channels: first`",
            False,
        ),
        (
            RNG.random((9, 784)),
            {},
            "vectors of 784 features; this is likely a mistake; save images as (N, 28",
            True,
        ),
        (
            RNG.normal(size=(9, 784)),
            {},
            "vectors of 784 features; `kind: series` says series of one channel",
            False,
        ),
        (RNG.normal(size=(9, 50)), {"kind": "series"}, "series of 1 channels with 50 steps; ", False),
        (RNG.random((9, 8, 8)), {"kind": "vector"}, "vectors of 64 features; `kind: series`", False),
    ],
)
def test_what_an_array_is_taken_for_is_told(
    tmp_path: Path, x: Any, more: dict[str, str], what: str, warned: bool
) -> None:
    domain = saved(tmp_path, x, **more)
    message, warning = taken(domain)
    assert message.startswith(what) and warning is warned


def test_what_is_said_is_done(tmp_path: Path) -> None:
    x = RNG.normal(size=(9, 128, 6)).astype(np.float32)
    assert np.array_equal(saved(tmp_path, x, channels="last").train.x, x.transpose(0, 2, 1))
    assert np.array_equal(saved(tmp_path, x[:, :, 0], kind="series").train.x, x[:, None, :, 0])
    assert np.array_equal(saved(tmp_path, x, kind="vector").train.x, x.reshape(9, -1))
    images = RNG.integers(0, 256, (5, 3, 6, 3)).astype(np.uint8)
    assert saved(tmp_path, images, channels="first").train.x.shape == (5, 3, 6, 6)
    with pytest.raises(DataError, match=r"series are \(N, C, L\), with `channels: last` \(N, L, C\)"):
        saved(tmp_path, images, kind="series")


def test_labels_of_numbers_and_names(tmp_path: Path) -> None:
    x = np.ones((4, 2), np.float32)
    numbers = saved(tmp_path, x, np.array([10, 9, 2, 10]))
    assert numbers.classes == ("2", "9", "10") and isinstance(numbers.train, Labelled)
    assert numbers.train.y.tolist() == [2, 1, 0, 2]
    names = saved(tmp_path, x * 2, np.array(["b", "a", "b", "c"]))
    assert names.classes == ("a", "b", "c") and names.train.y.tolist() == [1, 0, 1, 2]


def test_npy_files_and_a_test_part(tmp_path: Path) -> None:
    for name, array in {
        "x": np.ones((3, 2), np.float32),
        "y": np.array(["b", "a", "b"]),
        "tx": np.ones((2, 2), np.float32),
        "ty": np.array(["c", "a"]),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
    at = {k: str(tmp_path / f"{v}.npy") for k, v in (("arrays", "x"), ("labels", "y"), ("test", "tx"))}
    domain = open_with_labels(DomainSpec.model_validate({**at, "test_labels": str(tmp_path / "ty.npy")}), 0)
    assert domain.classes == ("a", "b", "c")
    assert isinstance(domain.train, Labelled) and domain.train.y.tolist() == [1, 0, 1]
    assert isinstance(domain.test, Labelled) and domain.test.y.tolist() == [2, 0]
    assert isinstance(open_with_labels(DomainSpec.model_validate(at), 0).test, Unlabelled)


GOOD = np.ones((4, 3, 9), np.float32)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.where(np.arange(9) == 4, np.nan, GOOD), None, r"sample 0 holds NaN or infinity, at \[0, 4\]"),
        (GOOD * np.array([1, 1, np.inf, 1])[:, None, None], None, "sample 2 holds NaN or infinity"),
        (np.array([None, 1]), None, "holds Python objects, not numbers"),
        (GOOD.astype(complex), None, "has type complex64|has type complex128"),
        (np.empty((0, 3)), None, "is empty"),
        (np.ones((2, 2, 2, 2, 2)), None, r"has shape \(2, 2, 2, 2, 2\); vectors are"),
        (np.ones((2, 5, 5, 7), np.uint8), None, r"images are \(N, H, W\)"),
        (
            np.full((2, 5, 5), -3, np.int16),
            None,
            "values from -3 to -3; images are of integers .*`kind: series`",
        ),
        (np.full((2, 5, 5, 3), 900.0), None, "values from 900 to 900; .*`white_level` says which"),
        (GOOD, np.array([0, 1, 0]), r"has shape \(3,\), but there are 4 samples"),
        (GOOD, np.array([0.5, 1, 0, 1]), "label 0.5 at 0 is no whole number; labels are whole"),
        (GOOD, np.array([0, 1, np.nan, 1]), "label nan at 2 is missing"),
        (GOOD, np.array(["a", None, "b", "a"]), "label at 1 is missing"),
        (GOOD, np.array(["a", [], "b", "a"], dtype=object), "label at 1 is of type list"),
        (GOOD, np.ones((4, 2)), r"has shape \(4, 2\), but there are 4 samples: .* or one-hot rows"),
        (GOOD, np.arange(4).astype("M8[D]"), r"has type datetime64\[D\]; labels are whole numbers or texts"),
        (np.full((4, 3, 9), 1e300), None, r"sample 0 .*, and 3 more samples do"),
        (np.array([["a", "b"]] * 4), None, "has type <U1; samples are of integers or floats"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, x: Any, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        saved(tmp_path, x, y)
    kept = Path(tmp_path / "prepared")
    assert not kept.exists()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"there is no file .*a\.npz"):
        open_with_labels(DomainSpec(arrays=str(path)), 0)
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"a\.npz is no whole \.npz"):
        open_with_labels(DomainSpec(arrays=str(path)), 0)
    np.savez(path, images=np.ones((2, 2)))
    with pytest.raises(DataError, match="holds no array 'x'"):
        open_with_labels(DomainSpec(arrays=str(path)), 0)
    plain = tmp_path / "b.npy"
    np.save(plain, np.ones((100, 7), np.float32))
    plain.write_bytes(plain.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"b\.npy is cut short"):
        open_with_labels(DomainSpec(arrays=str(plain)), 0)
    np.savez(path, x=np.arange(4000, dtype=np.float32).reshape(100, 40))
    whole = bytearray(path.read_bytes())
    whole[3000] ^= 255
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"a\.npz .*CRC"):
        open_with_labels(DomainSpec(arrays=str(path)), 0)


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    rows = np.zeros((1000, 1000), np.float32)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (50_000, 1000)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(50):
            file.write(rows.tobytes())
    assert open_array(path, "x").shape == (50_000, 1000)
    tracemalloc.start()
    domain = open_with_labels(DomainSpec(arrays=str(path)), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(domain.train) == 50_000
    assert peak < 100_000_000  # of the 200 MB that the array has


PYTHON = """
import numpy as np
from iimt_search.data.task import Domain, Labelled

def good():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    return Domain(Labelled(x, np.array([0, 1] * 3)), None, ("a", "b"), "vector", "noise")

def wrong_type():
    x = np.zeros((6, 2))
    return Domain(Labelled(x, np.array([0, 1] * 3)), None, ("a", "b"), "vector", "noise")

def meant():
    x = np.zeros((6, 3, 4, 6), np.uint8)
    x[::2] = 9
    index = np.array([0, 2, 4])
    return Domain(Labelled(x, np.array([0, 1, 0]), index), None, ("a", "b"), "image", "image")

def out_of_range():
    x = np.zeros((6, 2), np.float32)
    return Domain(Labelled(x, np.array([0, 1, 2] * 2)), None, ("a", "b"), "vector", "noise")

def nothing():
    return 3
"""


def test_python_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_domains.py").write_text(PYTHON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    domain = open_with_labels(DomainSpec(python="own_domains:good"), 0)
    assert domain.classes == ("a", "b") and len(domain.fingerprint) == 64
    meant = open_with_labels(DomainSpec(python="own_domains:meant"), 4)
    assert meant.train.x.shape == (3, 3, 4, 4) and np.unique(meant.train.x).tolist() == [9]
    with pytest.raises(DataError, match="samples of 1 dimensions of float32, got 1 of float64"):
        open_with_labels(DomainSpec(python="own_domains:wrong_type"), 0)
    with pytest.raises(DataError, match="label 2 at 2 is out of range for 2 classes"):
        open_with_labels(DomainSpec(python="own_domains:out_of_range"), 0)
    with pytest.raises(DataError, match="must return an iimt_search.data.task.Domain, got int"):
        open_with_labels(DomainSpec(python="own_domains:nothing"), 0)
    with pytest.raises(DataError, match="own_domains:absent cannot be found"):
        open_with_labels(DomainSpec(python="own_domains:absent"), 0)
