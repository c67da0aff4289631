from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iimt_search.data.open import open_domain
from iimt_search.data.task import Labelled, Unlabelled
from iimt_search.errors import DataError
from iimt_search.space.task_spec import DomainSpec

Paint = Callable[[str, int], Path]


@pytest.fixture
def paint(tmp_path: Path) -> Paint:
    def write(name: str, value: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 8), (value, value, value)).save(path)
        return path

    return write


def domain_of(folder: Path, **more: str) -> DomainSpec:
    return DomainSpec.model_validate({"folder": str(folder), **more})


def test_class_folders(paint: Paint, tmp_path: Path) -> None:
    for name, value in (
        ("d/dog/1.png", 30),
        ("d/cat/b.jpg", 20),
        ("d/cat/a.png", 10),
        ("d/cat/.hidden.png", 99),
    ):
        paint(name, value)
    (tmp_path / "d" / "cat" / "notes.txt").write_text("not an image")
    domain = open_domain(domain_of(tmp_path / "d"), 8)
    assert domain.classes == ("cat", "dog") and isinstance(domain.train, Labelled)
    assert domain.train.x.shape == (3, 3, 8, 8) and domain.train.x.dtype == np.uint8
    assert domain.train.y.tolist() == [0, 0, 1]
    assert [int(x.mean()) for x in domain.train.x] == [10, 20, 30]
    assert (domain.kind, domain.augmentation) == ("image", "image")


def test_flat_folder_has_no_labels(paint: Paint, tmp_path: Path) -> None:
    paint("d/1.png", 1)
    paint("d/2.png", 2)
    domain = open_domain(domain_of(tmp_path / "d", augmentation="objects"), 8)
    assert domain.classes is None and isinstance(domain.train, Unlabelled)
    assert domain.augmentation == "objects"


def test_test_folder(paint: Paint, tmp_path: Path) -> None:
    for name in ("d/cat/1.png", "d/dog/1.png", "t/cat/1.png", "t/dog/2.png"):
        paint(name, 5)
    domain = open_domain(domain_of(tmp_path / "d", test=str(tmp_path / "t")), 8)
    assert isinstance(domain.test, Labelled) and domain.test.y.tolist() == [0, 1]
    paint("t/fox/1.png", 5)
    with pytest.raises(DataError, match="its training and test folders have other classes"):
        open_domain(domain_of(tmp_path / "d", test=str(tmp_path / "t")), 8)


def test_a_changed_file_is_read_again(paint: Paint, tmp_path: Path) -> None:
    paint("d/cat/1.png", 1)
    paint("d/dog/1.png", 1)
    first = open_domain(domain_of(tmp_path / "d"), 8)
    paint("d/dog/2.png", 7)
    second = open_domain(domain_of(tmp_path / "d"), 8)
    assert (len(first.train), len(second.train)) == (2, 3)
    assert first.fingerprint != second.fingerprint


def test_what_is_wrong_is_told(paint: Paint, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder .*absent"):
        open_domain(domain_of(tmp_path / "absent"), 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no image .* and no class folder"):
        open_domain(domain_of(tmp_path / "empty"), 8)
    paint("d/cat/1.png", 1)
    (tmp_path / "d" / "dog").mkdir()
    with pytest.raises(DataError, match="class folder .*dog holds no image"):
        open_domain(domain_of(tmp_path / "d"), 8)
    paint("d/dog/1.png", 1)
    loose = paint("d/loose.png", 1)
    with pytest.raises(DataError, match=r"holds images \(loose.png\) beside class folders \(cat/\)"):
        open_domain(domain_of(tmp_path / "d"), 8)
    loose.unlink()
    (tmp_path / "d" / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    with pytest.raises(DataError, match=r"dog/broken\.png"):
        open_domain(domain_of(tmp_path / "d"), 8)
