import hashlib
import io
import pickle
import tarfile
import urllib.request
import warnings
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10

from iimt_search.data.domains.torchvision_sets import OBJECTS, cifar10
from iimt_search.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


class OldDtype:
    """uint8 as NumPy 1 pickled it, with numbers for the booleans."""

    def __reduce__(self) -> Any:
        return np.dtype, ("u1", 0, 1), (3, "|", None, None, None, -1, -1, 0)


class OldArray:
    """An array as NumPy 1 pickled it."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        make = np.empty(0).__reduce__()[0]
        state = (1, self.array.shape, OldDtype(), False, self.array.tobytes())
        return make, (np.ndarray, (0,), b"b"), state


def write_binstring(pickler: Any, value: bytes | str) -> None:
    data = value.encode("latin1") if isinstance(value, str) else value
    pickler.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
    pickler.memoize(value)


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes every string as Python 2's, as in the original files."""

    dispatch = {**pickle._Pickler.dispatch, bytes: write_binstring, str: write_binstring}  # type: ignore[attr-defined]  # noqa: RUF012


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def content(batch: str) -> tuple[NDArray[np.uint8], list[int]]:
    """Rows of 3072 values: 1024 red, 1024 green, 1024 blue; every class once, in another order each."""
    rng = np.random.default_rng(BATCHES.index(batch))
    return rng.integers(0, 256, (10, 3072), np.uint8), [int(label) for label in rng.permutation(10)]


def originals() -> dict[str, bytes]:
    files = {}
    for batch in BATCHES:
        data, labels = content(batch)
        files[batch] = pickled(
            {"batch_label": batch, "labels": labels, "data": OldArray(data), "filenames": []}
        )
    files["batches.meta"] = pickled({"num_cases_per_batch": 10, "label_names": NAMES, "num_vis": 3072})
    return files


def expect(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], archive: bytes) -> None:
    """Make torchvision expect these files."""
    sums = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in BATCHES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive).hexdigest())


def tar(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def no_network(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setenv("IIMT_DATA", str(tmp_path))
    root = tmp_path / "torchvision"
    root.mkdir()
    return root


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """The archive, placed by hand."""
    files = originals()
    data = tar(files)
    expect(monkeypatch, files, data)
    (root / CIFAR10.filename).write_bytes(data)
    return root / CIFAR10.filename


def test_numpys_warning_of_the_old_pickles_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, archive: Path
) -> None:
    real = pickle.load

    def load(*arguments: Any, **options: Any) -> Any:
        message = "dtype(): align should be passed as Python or NumPy boolean but got `align=0`."
        warnings.warn(message, np.exceptions.VisibleDeprecationWarning, stacklevel=2)
        return real(*arguments, **options)

    monkeypatch.setattr(pickle, "load", load)
    assert cifar10(32).train.count == 45
    with pytest.warns(np.exceptions.VisibleDeprecationWarning):
        CIFAR10(archive.parent)


def test_pixels_and_labels(archive: Path) -> None:
    stream = cifar10(32)
    for batches, part in ((BATCHES[:5], stream.train), (BATCHES[5:], stream.test)):
        assert part is not None and part.y is not None
        expected = []
        for batch in batches:
            for row, label in zip(*content(batch), strict=True):
                name = {"automobile": "car"}.get(NAMES[label], NAMES[label])
                if name != "frog":
                    expected.append((row.reshape(3, 32, 32), OBJECTS.index(name)))
        x = np.concatenate(list(part.chunks()))
        assert x.dtype == np.uint8
        assert np.array_equal(x, np.stack([image for image, _ in expected]))
        assert part.count == 9 * len(batches)
        assert part.y.dtype == np.int64
        assert part.y.tolist() == [label for _, label in expected]
    assert stream.classes == ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "ship", "truck")
    assert (stream.kind, stream.augmentation) == ("image", "objects")


def test_the_folder_is_enough_and_left_alone(archive: Path, root: Path) -> None:
    cifar10(32)
    archive.unlink()
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    assert cifar10(16).train.sample_shape == (3, 16, 16)
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_no_network_says_what_to_place_where(root: Path) -> None:
    with pytest.raises(DataError) as caught:
        cifar10(32)
    assert (
        f"download {CIFAR10.url} elsewhere and put it at {root / CIFAR10.filename} (md5 {CIFAR10.tgz_md5})"
        in str(caught.value)
    )


def test_wrong_checksum_of_the_archive(archive: Path) -> None:
    archive.write_bytes(b"else")
    with pytest.raises(
        DataError, match=rf"cifar10: {archive} has md5 {hashlib.md5(b'else').hexdigest()} instead"
    ):
        cifar10(32)


def test_truncated_archive(monkeypatch: pytest.MonkeyPatch, archive: Path, root: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-2000])
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with pytest.raises(DataError, match=rf"{archive} cannot be read, it is damaged or cut short"):
        cifar10(32)
    assert not (root / CIFAR10.base_folder).exists()


def test_another_file_in_the_folder_is_never_unpickled(archive: Path, root: Path) -> None:
    cifar10(32)
    folder = root / CIFAR10.base_folder
    evil = root / "evil"
    (folder / "data_batch_3").write_bytes(b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V%btRtR." % bytes(evil))
    with pytest.raises(
        DataError, match=rf"{folder}/data_batch_3 has md5 .*delete {folder} to have it made again"
    ):
        cifar10(32)
    assert not evil.exists()


def test_a_missing_file_in_the_folder_is_named(archive: Path, root: Path) -> None:
    cifar10(32)
    (root / CIFAR10.base_folder / "batches.meta").unlink()
    with pytest.raises(DataError, match=r"cifar10 needs .*/batches\.meta \(md5 .*\), which is missing"):
        cifar10(32)


@pytest.mark.parametrize("name", ["data_batch_2", "batches.meta"])
def test_a_truncated_pickle(monkeypatch: pytest.MonkeyPatch, root: Path, name: str) -> None:
    files = originals()
    files[name] = files[name][:-20]
    data = tar(files)
    expect(monkeypatch, files, data)
    (root / CIFAR10.filename).write_bytes(data)
    with pytest.raises(DataError, match=rf"{root / CIFAR10.base_folder} cannot be read, it is damaged"):
        cifar10(32)
