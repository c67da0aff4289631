import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from iimt_search import cores
from iimt_search.data.assemble import load_task
from iimt_search.data.image_files import files
from iimt_search.data.image_files.folder import image_folder
from iimt_search.data.open import open_with_labels
from iimt_search.data.store import file_key
from iimt_search.data.task import DomainTask, Labelled, Samples, Unlabelled
from iimt_search.errors import DataError
from iimt_search.space.task_spec import DomainSpec, TaskSpec

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
    domain = open_with_labels(domain_of(tmp_path / "d"), 8)
    assert domain.classes == ("cat", "dog") and isinstance(domain.train, Labelled)
    assert domain.train.x.shape == (3, 3, 8, 8) and domain.train.x.dtype == np.uint8
    assert domain.train.y.tolist() == [0, 0, 1]
    assert [int(x.mean()) for x in domain.train.x] == [10, 20, 30]
    assert (domain.kind, domain.augmentation) == ("image", "image")


def test_flat_folder_has_no_labels(paint: Paint, tmp_path: Path) -> None:
    paint("d/1.png", 1)
    paint("d/2.png", 2)
    domain = open_with_labels(domain_of(tmp_path / "d", augmentation="objects"), 8)
    assert domain.classes is None and isinstance(domain.train, Unlabelled)
    assert domain.augmentation == "objects"


def test_test_folder(paint: Paint, tmp_path: Path) -> None:
    for name in ("d/cat/1.png", "d/dog/1.png", "t/cat/1.png", "t/dog/2.png"):
        paint(name, 5)
    domain = open_with_labels(domain_of(tmp_path / "d", test=str(tmp_path / "t")), 8)
    assert isinstance(domain.test, Labelled) and domain.test.y.tolist() == [0, 1]
    paint("t/fox/1.png", 5)
    with pytest.raises(DataError, match="its training and test folders have other classes"):
        open_with_labels(domain_of(tmp_path / "d", test=str(tmp_path / "t")), 8)


def test_a_changed_file_is_read_again(paint: Paint, tmp_path: Path) -> None:
    paint("d/cat/1.png", 1)
    paint("d/dog/1.png", 1)
    first = open_with_labels(domain_of(tmp_path / "d"), 8)
    paint("d/dog/2.png", 7)
    second = open_with_labels(domain_of(tmp_path / "d"), 8)
    assert (len(first.train), len(second.train)) == (2, 3)
    assert first.fingerprint != second.fingerprint


def test_what_is_wrong_is_told(paint: Paint, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder .*absent"):
        open_with_labels(domain_of(tmp_path / "absent"), 8)
    with pytest.raises(DataError, match=r"1\.png is a file; `folder` names"):
        open_with_labels(domain_of(paint("d/1.png", 1)), 8)
    (tmp_path / "d" / "1.png").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no image .* and no class folder"):
        open_with_labels(domain_of(tmp_path / "empty"), 8)
    paint("d/cat/1.png", 1)
    (tmp_path / "d" / "dog").mkdir()
    paint("d/dog/1.png", 1)
    loose = paint("d/loose.png", 1)
    with pytest.raises(DataError, match=r"holds images \(loose.png\) beside class folders \(cat/\)"):
        open_with_labels(domain_of(tmp_path / "d"), 8)
    loose.unlink()
    (tmp_path / "d" / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    with pytest.raises(DataError, match=r"dog/broken\.png"):
        open_with_labels(domain_of(tmp_path / "d"), 8)


def task_of(source: Path, target: Path, **more: object) -> DomainTask:
    load_task.cache_clear()
    content = {"source": {"folder": str(source)}, "target": {"folder": str(target), **more}}
    return load_task(TaskSpec.model_validate(content), 8)


@pytest.fixture
def lab(paint: Paint, tmp_path: Path) -> Path:
    """A source of two classes."""
    for index in range(4):
        paint(f"lab/rust/{index}.png", 200 + index)
        paint(f"lab/clean/{index}.png", 50 + 40 * index)
    return tmp_path / "lab"


def told(task: DomainTask) -> list[str]:
    return [note.message for note in task.notes]


def test_images_are_found_at_any_depth(lab: Path, paint: Paint, tmp_path: Path) -> None:
    for index in range(5):
        paint(f"lab/rust/batch2/{index}.png", 150)
        paint(f"lab/rust/batch2/again/{index}.png", 160)
    for day in ("2026-11-24", "2026-11-25"):
        paint(f"field/{day}/a.png", 20)
        paint(f"field/{day}/noon/b.png", 190)
    paint("field/loose.png", 100)
    task = task_of(lab, tmp_path / "field", labelled=False)
    assert len(task.source_train) + len(task.source_val) == 18 and task.classes == ("clean", "rust")
    assert len(task.target) == 5
    assert f"{lab}: 10 of 18 images lie deeper than right in a class folder" in " ".join(told(task))


def test_dated_folders_of_a_target_are_told_with_what_to_say(lab: Path, paint: Paint, tmp_path: Path) -> None:
    paint("field/2026-11-24/a.png", 20)
    with pytest.raises(DataError, match="classes 2026-11-24 are not among .* say labelled: false"):
        task_of(lab, tmp_path / "field")
    paint("field/loose.png", 20)
    with pytest.raises(DataError, match="beside class folders .* say labelled: false"):
        task_of(lab, tmp_path / "field")


def test_classes_one_folder_deeper_are_told(lab: Path, paint: Paint, tmp_path: Path) -> None:
    for part in ("train", "val"):
        shutil.copytree(lab, tmp_path / "whole" / part)
    target = paint("field/a.png", 200).parent
    (nested, _) = told(task_of(tmp_path / "whole", target))[:2]
    assert (
        "its 2 class folders hold folders of the same names (clean, rust); if those are the classes" in nested
    )


def test_class_folders_lie_in_the_only_folder_within(lab: Path, paint: Paint, tmp_path: Path) -> None:
    shutil.copytree(lab, tmp_path / "office" / "amazon" / "images")
    (tmp_path / "office" / "amazon" / "notes.txt").write_text("mine")
    paint("field/a.png", 200)
    task = task_of(tmp_path / "office", tmp_path / "field")
    assert task.classes == ("clean", "rust") and len(task.source_train) + len(task.source_val) == 8
    assert told(task)[0] == f"{tmp_path}/office: the classes are the folders in amazon/images/"
    assert told(task)[1].endswith("skipped files that are no images of a type that is read: 1 .txt")
    # What holds no image beside `images` is passed by; with images it is a class of its own, as before.
    (tmp_path / "office" / "amazon" / "points").mkdir()
    (tmp_path / "office" / "amazon" / "points" / "a.mat").write_bytes(b"")
    assert image_folder(tmp_path / "office").classes == ("clean", "rust")
    paint("office/amazon/points/b.png", 3)
    assert image_folder(tmp_path / "office").classes == ("images", "points")


def test_the_only_class_folder_is_one(lab: Path, paint: Paint, tmp_path: Path) -> None:
    paint("field/rust/1.png", 4)
    paint("field/rust/deep/2.png", 4)
    assert image_folder(tmp_path / "field").classes == ("rust",)
    paint("flat/images/1.png", 4)
    assert image_folder(tmp_path / "flat").classes == ("images",)
    paint("one/images/rust/1.png", 4)
    assert image_folder(tmp_path / "one").classes == ("rust",)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="again is a link to a folder that it is in, a loop"):
        image_folder(tmp_path / "loop")


def test_classes_found_deeper_are_not_those_that_were_prepared_before(lab: Path, tmp_path: Path) -> None:
    # The key of what an earlier version has prepared of the same files, as one class.
    files = image_folder(lab).files
    shutil.copytree(lab, tmp_path / "whole" / "images")
    deeper = image_folder(tmp_path / "whole")
    assert file_key(deeper.files, deeper.labelling) != file_key(deeper.files)
    assert file_key(files, image_folder(lab).labelling) == file_key(files)


def test_files_that_are_no_known_image_are_counted_by_ending(lab: Path, paint: Paint, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "white").save(lab / "rust" / "phone.jfif", "JPEG")
    for name in ("a.HEIC", "b.heic", "c.raw", "noending"):
        (lab / "rust" / name).write_bytes(b"not read")
    (lab / "notes.txt").write_text("mine")
    task = task_of(lab, paint("field/a.png", 200).parent)
    assert len(task.source_train) + len(task.source_val) == 9
    (note,) = [note for note in task.notes if note.kind == "skipped"]
    assert note.warning and note.message.endswith(": 2 .heic, 1 without ending, 1 .raw, 1 .txt")
    for path in (lab / "clean").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"class folder .*clean holds no image; there are 4 \.heic"):
        task_of(lab, tmp_path / "field")
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "a.HEIC").write_bytes(b"not read")
    with pytest.raises(DataError, match=r"phone holds no image .*; there are 1 \.heic"):
        task_of(lab, tmp_path / "phone")


def test_dead_links_folders_called_like_images_and_loops_are_all_named(lab: Path, tmp_path: Path) -> None:
    (lab / "gone").symlink_to(tmp_path / "unmounted")
    (lab / "rust" / "dead.png").symlink_to("nowhere.png")
    (lab / "rust" / "x.png").mkdir()
    (lab / "clean" / "loop").symlink_to(lab / "clean")
    (lab / "clean" / "self.png").symlink_to("self.png")
    os.mkfifo(lab / "clean" / "pipe.png")
    os.mkfifo(lab / "clean" / "other.sock")
    with pytest.raises(DataError, match="6 things are wrong") as caught:
        image_folder(lab)
    assert sorted(cause.removeprefix(f"{lab}/") for cause in caught.value.causes) == [
        "clean/loop is a link to a folder that it is in, a loop",
        "clean/pipe.png is neither a file nor a folder",
        "clean/self.png cannot be read: Too many levels of symbolic links",
        f"gone is a link to {tmp_path}/unmounted, which is not there",
        "rust/dead.png is a link to nowhere.png, which is not there",
        "rust/x.png is a folder that is called like a file; rename it",
    ]


def test_links_are_followed(lab: Path, paint: Paint, tmp_path: Path) -> None:
    elsewhere = paint("disk/far/1.png", 9)
    (lab / "far").symlink_to(elsewhere.parent)
    (lab / "rust" / "linked.png").symlink_to(elsewhere)
    assert image_folder(lab).classes == ("clean", "far", "rust") and len(image_folder(lab).files) == 10


def test_what_systems_leave_behind_is_skipped_and_told(lab: Path, paint: Paint, tmp_path: Path) -> None:
    for name in ("lab/@eaDir/a.png", "lab/rust/@eaDir/a.png", "lab/__MACOSX/b.png", "lab/rust/._1.png"):
        paint(name, 7)
    (lab / "rust" / "Thumbs.db").write_bytes(b"")
    task = task_of(lab, paint("field/a.png", 200).parent)
    assert task.classes == ("clean", "rust") and len(task.source_train) + len(task.source_val) == 8
    assert told(task)[:2] == [
        f"{lab}: skipped what systems leave behind: @eaDir (2), Thumbs.db (1), __MACOSX (1)",
        f"{lab}: skipped hidden files and folders: 1",
    ]
    assert not any(note.warning for note in task.notes if note.kind == "skipped")


def test_an_empty_class_folder_is_an_error_in_a_source_alone(lab: Path, paint: Paint, tmp_path: Path) -> None:
    paint("field/rust/1.png", 250)
    paint("test/clean/1.png", 250)
    for name in ("clean", "unsorted"):
        (tmp_path / "field" / name).mkdir()
    task = task_of(lab, tmp_path / "field", test=str(tmp_path / "test"))
    assert len(task.target) == 1 and "unsorted" not in " ".join(told(task))
    (lab / "dog").mkdir()
    with pytest.raises(DataError, match=f"^class folder {lab}/dog holds no image$"):
        task_of(lab, tmp_path / "field")


def test_names_that_are_not_utf_8_and_accents_in_two_forms(lab: Path, tmp_path: Path) -> None:
    strange = os.fsdecode(os.fsencode(lab / "caf") + b"\xe9")
    shutil.copytree(lab / "rust", strange)
    Path(strange, "0.png").rename(os.fsdecode(os.fsencode(strange) + b"/\xff.png"))
    shutil.copytree(lab / "rust", lab / "e\u0301")
    shutil.copytree(lab, tmp_path / "field")
    (tmp_path / "field" / "e\u0301").rename(tmp_path / "field" / "\u00e9")
    task = task_of(lab, tmp_path / "field")
    assert task.classes == ("caf\\xe9", "clean", "\u00e9", "rust") and len(task.target) == 16
    Path(os.fsdecode(os.fsencode(strange) + b"/\xff.png")).write_bytes(b"broken")
    with pytest.raises(DataError, match=r"lab/caf\\xe9/\\xff\.png is not an image"):
        task_of(lab, tmp_path / "field")


def test_a_folder_without_permission_is_named(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "rust":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read everything
    with pytest.raises(DataError, match="rust cannot be read: Permission denied"):
        image_folder(lab)


def test_a_test_folder_within_the_training_folder(lab: Path, paint: Paint, tmp_path: Path) -> None:
    paint("field/a.png", 9)
    paint("field/test/rust/b.png", 9)
    with pytest.raises(DataError, match="field/test is within .*field: training would see the test samples"):
        task_of(lab, tmp_path / "field", labelled=False, test=str(tmp_path / "field" / "test"))


def test_all_broken_files_are_listed_with_a_limit(lab: Path, tmp_path: Path) -> None:
    shutil.copytree(lab, tmp_path / "field")
    for path in (lab / "rust" / "1.png", tmp_path / "field" / "clean" / "2.png"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        task_of(lab, tmp_path / "field", test=str(lab))
    assert str(caught.value).splitlines() == [
        "2 things are wrong with the data",
        f"  {lab}/rust/1.png is not an image that can be read",
        f"  {tmp_path}/field/clean/2.png is not an image that can be read",
    ]
    for index in range(20):
        (lab / "rust" / f"{index}.png").write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        open_with_labels(domain_of(lab), 8)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("20 things") and len(lines) == 12 and lines[-1] == "  and 10 more"


def test_images_are_read_on_every_core_in_order_and_piece_by_piece(
    paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = threading.Barrier(2)  # two threads read, or the test fails
    read = files.read_image

    def together(path: Path, size: int, level: float | None, **more: Any) -> Samples:
        at_once.wait(timeout=30)
        return read(path, size, level)

    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    monkeypatch.setattr(files, "read_image", together)
    monkeypatch.setattr(files, "_CHUNK_BYTES", 3 * 8 * 8 * 4)
    for index in range(10):
        paint(f"d/{index}.png", 20 * index)
    (tmp_path / "d" / "7.png").write_bytes(b"broken")
    (tmp_path / "d" / "3.png").write_bytes(b"broken")
    broken: list[str] = []
    chunks = list(image_folder(tmp_path / "d").stream(8, None, broken).chunks())
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    means = [int(image.mean()) for chunk in chunks for image in chunk]
    assert means == [0, 20, 40, 0, 80, 100, 120, 0, 160, 180]
    assert [Path(told.split(" is not")[0]).name for told in broken] == ["3.png", "7.png"]


def grey(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def test_one_factor_for_all_files_of_more_than_8_bits(lab: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index, most in enumerate((4095, 4000, 900, 200)):
        values = rng.integers(0, most, (8, 8)).astype(np.uint16)
        values[0, 0] = most
        grey(tmp_path / "camera" / f"{index}.png", values)
    task = task_of(lab, tmp_path / "camera")
    most = [int(x[0, 0, 0]) for x in task.target.x]
    assert (
        most == [round(value * 255 / 4095) for value in (4095, 4000, 900, 200)] and task.white_level == 4095
    )
    (note,) = [note for note in task.notes if note.kind == "values"]
    assert "4 of 4 images have more than 8 bits, values from " in note.message and not note.warning
    assert note.message.endswith(" to 4095; 4095 becomes white, unless `white_level` says otherwise")
    (few,) = [note for note in task.notes if note.kind == "few-levels"]
    assert few.warning and "1 of 4 images have fewer than 32 grey values left; `white_level`" in few.message
    given = task_of(lab, tmp_path / "camera", white_level=65535)
    assert int(given.target.x[0, 0, 0, 0]) == 16 and given.white_level == 65535
    (few,) = [note for note in given.notes if note.kind == "few-levels"]
    assert few.warning and "only 17 grey values are left, 0 to 16 of 0 to 255; `white_level`" in few.message


def test_floats_in_files_and_what_cannot_be_scaled(lab: Path, tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    grey(tmp_path / "f" / "a.tif", ramp)
    grey(tmp_path / "f" / "b.tif", ramp / 100)
    task = task_of(lab, tmp_path / "f")
    assert task.white_level == 1.0 and [int(x.max()) for x in task.target.x] == [255, 3]
    grey(tmp_path / "f" / "c.tif", np.arange(64, dtype=np.uint16).reshape(8, 8))
    mixed = task_of(lab, tmp_path / "f")  # of integers and floats: one factor all the same
    assert mixed.white_level == 255.0 and int(mixed.target.x[2].max()) == 63
    grey(tmp_path / "f" / "c.tif", ramp - 5)
    with pytest.raises(DataError, match=r"values from -5 to 1; images are .*`white_level` says which"):
        task_of(lab, tmp_path / "f")
    ramp[0, 0] = np.nan
    grey(tmp_path / "f" / "c.tif", ramp)
    with pytest.raises(DataError, match=r"c\.tif cannot be read as an image: it holds NaN"):
        task_of(lab, tmp_path / "f")


def test_white_levels_of_both_domains_are_compared(lab: Path, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for index in range(3):
            grey(tmp_path / "a" / name / f"{index}.png", np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    grey(tmp_path / "b" / "1.png", np.arange(64, dtype=np.uint16).reshape(8, 8) * 60)
    (note,) = [note for note in task_of(tmp_path / "a", tmp_path / "b").notes if note.kind == "scale"]
    assert note.warning and note.message.startswith("white is 65535 in a and 4095 in b: ")
