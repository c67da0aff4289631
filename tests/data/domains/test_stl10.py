import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import STL10

from iimt_search.data.domains.torchvision_sets import OBJECTS, stl10
from iimt_search.errors import DataError

NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def content(split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (10, 96, 96, 3) and labels 1 to 10, every class once."""
    rng = np.random.default_rng(len(split))
    return rng.integers(0, 256, (10, 96, 96, 3), np.uint8), (rng.permutation(10) + 1).astype(np.uint8)


def originals() -> dict[str, bytes]:
    """X: image after image, channel after channel, column after column; y: one byte a label."""
    files = {"class_names.txt": "\n".join(NAMES).encode(), "unlabeled_X.bin": bytes(96 * 96 * 3)}
    for split in ("train", "test"):
        images, labels = content(split)
        files[f"{split}_X.bin"] = images.transpose(0, 3, 2, 1).tobytes()
        files[f"{split}_y.bin"] = labels.tobytes()
    return files


def expect(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], archive: bytes = b"") -> None:
    """Make torchvision expect these files."""

    def sums(names: list[str]) -> list[list[str]]:
        return [[name, hashlib.md5(files[name]).hexdigest()] for name in names]

    monkeypatch.setattr(STL10, "train_list", sums(["train_X.bin", "train_y.bin", "unlabeled_X.bin"]))
    monkeypatch.setattr(STL10, "test_list", sums(["test_X.bin", "test_y.bin"]))
    monkeypatch.setattr(STL10, "tgz_md5", hashlib.md5(archive).hexdigest())


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
def folder(monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """The extracted folder, placed by hand."""
    files = originals()
    expect(monkeypatch, files)
    folder = root / STL10.base_folder
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("size", [96, 32])
def test_pixels_and_labels(folder: Path, root: Path, size: int) -> None:
    before = sorted(root.rglob("*"))
    stream = stl10(size)
    for split, part in (("train", stream.train), ("test", stream.test)):
        assert part is not None and part.y is not None
        kept = [(image, NAMES[label - 1]) for image, label in zip(*content(split), strict=True) if label != 8]
        x = np.concatenate(list(part.chunks()))
        assert (x.dtype, x.shape) == (np.uint8, (9, 3, size, size))
        for sample, (image, _) in zip(x, kept, strict=True):
            expected = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
            assert np.array_equal(sample.transpose(1, 2, 0), np.asarray(expected))
        assert part.y.dtype == np.int64
        assert [OBJECTS[label] for label in part.y] == [name for _, name in kept]
    assert stream.classes == OBJECTS
    assert (stream.kind, stream.augmentation) == ("image", "objects")
    assert sorted(root.rglob("*")) == before


def test_the_unlabelled_images_are_not_needed(folder: Path) -> None:
    (folder / "unlabeled_X.bin").unlink()
    (folder / "class_names.txt").unlink()
    assert stl10(32).train.count == 9


def test_from_the_archive(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    files = originals()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"stl10_binary/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    expect(monkeypatch, files, file.getvalue())
    (root / STL10.filename).write_bytes(file.getvalue())
    assert stl10(32).train.count == 9
    STL10(root, "unlabeled")  # torchvision itself finds all of it


def test_no_network_says_what_to_place_where(root: Path) -> None:
    with pytest.raises(DataError) as caught:
        stl10(32)
    assert (
        f"download {STL10.url} elsewhere and put it at {root / STL10.filename} (md5 {STL10.tgz_md5})"
        in str(caught.value)
    )


@pytest.mark.parametrize("name", ["train_X.bin", "test_y.bin"])
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(
        DataError, match=rf"stl10: {folder / name} has md5 .* instead of .*delete {folder} to"
    ):
        stl10(32)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "test_X.bin").unlink()
    with pytest.raises(DataError, match=rf"stl10 needs {folder}/test_X\.bin \(md5 .*\), which is missing"):
        stl10(32)


def test_what_torchvision_cannot_read_names_the_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    files = originals()
    files["test_X.bin"] = files["test_X.bin"][:-1]
    (folder / "test_X.bin").write_bytes(files["test_X.bin"])
    expect(monkeypatch, files)
    with pytest.raises(DataError, match=rf"{folder} cannot be read, it is damaged or cut short \(ValueError"):
        stl10(32)
