import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iimt_search.data.assemble import load_task
from iimt_search.data.image_files.image_list import image_list, read_names
from iimt_search.data.open import open_with_labels
from iimt_search.data.task import Labelled, Unlabelled
from iimt_search.errors import DataError
from iimt_search.space import Space
from iimt_search.space.task_spec import DomainSpec, TaskSpec

Write = Callable[..., Path]
IMAGES = ("a.png", "my dir/b c.png", "x,y.png", "c.png")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a list; the images that lists here name are there."""
    for value, name in enumerate(IMAGES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 5), (10 * value,) * 3).save(tmp_path / name)

    def wrote(text: str | bytes, name: str = "list.txt") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return wrote


def labels(path: Path, **more: Path) -> dict[str, str | None]:
    found = image_list(path, **more)
    root = path.parent.resolve()
    names = [None] * len(found.files) if found.y is None else [(found.classes or ())[at] for at in found.y]
    files = [str(file.resolve().relative_to(root)) for file in found.files]
    return dict(zip(files, names, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "a.png 0\nmy dir/b c.png 1\nx,y.png 10\n",
        "a.png   0\r\n\r\n# a comment\r\n  my dir/b c.png\t 1\r\nx,y.png 10".replace("\t", " "),
        "\ufeffa.png\t0\nmy dir/b c.png\t1\nx,y.png\t10\n",
        'a.png, 0\nmy dir/b c.png,1\n"x,y.png",10\n',
        'path,label\na.png,0\nmy dir/b c.png,1\n"x,y.png",10\n',
        'bild;klasse\na.png;0\n"my dir/b c.png";1\nx,y.png;10\n',
        ',Label,file_name,split\n0,0,a.png,train\n1,1.0,my dir/b c.png,train\n2,10,"x,y.png",val\n',
        './a.png 0\n"my dir/b c.png" 1\nmy dir/../x,y.png 10',
        "a.png 0\nmy dir\\b c.png 1\nx,y.png 10\n",
        "a.png 0\rmy dir/b c.png 1\rx,y.png 10\r",
    ],
)
def test_path_and_label_in_every_form(write: Write, text: str) -> None:
    assert labels(write(text)) == {"a.png": "0", "my dir/b c.png": "1", "x,y.png": "10"}
    assert labels(write(text.removeprefix("\ufeff").encode("utf-16")))["x,y.png"] == "10"


@pytest.mark.parametrize(
    "text", ["a.png\nmy dir/b c.png\nx,y.png\n", 'file\na.png\n"my dir/b c.png"\nx,y.png']
)
def test_a_list_of_paths_alone_has_no_labels(write: Write, text: str) -> None:
    assert labels(write(text)) == {"a.png": None, "my dir/b c.png": None, "x,y.png": None}


def test_what_is_written_as_tables_are(write: Write, tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Image", "Class"), *((name, f"class, {name}") for name in IMAGES)])
    assert labels(tmp_path / "t.csv") == {name: f"class, {name}" for name in IMAGES}


def test_texts_are_names_and_numbers_are_in_their_own_order(write: Write) -> None:
    found = image_list(write("a.png rust\nc.png cafe\u0301\n"))
    assert found.classes == ("caf\u00e9", "rust") and found.y is not None and found.y.tolist() == [1, 0]
    assert image_list(write("a.png 10\nc.png 9\nx,y.png -1\n")).classes == ("-1", "9", "10")
    assert image_list(write("a.png 007\nc.png 07\n")).classes == ("007", "07")


def test_root_and_paths_that_lead_elsewhere(write: Write, tmp_path: Path) -> None:
    path = write(f"a.png 0\n{tmp_path}/c.png 1\nlists/../my dir/b c.png 1\n", "lists/l.txt")
    assert [file.name for file in image_list(path, tmp_path).files] == ["a.png", "c.png", "b c.png"]
    assert len(image_list(write("../a.png 0\n../c.png 1\n", "lists/l.txt")).files) == 2


@pytest.mark.parametrize(
    "text",
    ["clean\nold rust\nnew 2\n", "0 clean\n2,new 2\n1: old rust\n", "clean 0\nold rust 1\nnew 2\t2\n"],
)
def test_names_of_numbers(write: Write, text: str) -> None:
    names = write(text, "names.txt")
    assert read_names(names) == {0: "clean", 1: "old rust", 2: "new 2"}
    found = image_list(write("a.png 1\nc.png 0\nx,y.png 1"), names=names)
    assert found.classes == ("clean", "old rust") and found.y is not None and found.y.tolist() == [1, 0, 1]
    assert found.known == ("clean", "old rust", "new 2")
    assert [note.message for note in found.notes] == [
        f"{names}: 1 of 3 names have no image in {names.parent}/list.txt"
    ]
    assert image_list(write("a.png,old rust\nc.png,clean"), names=names).classes == ("clean", "old rust")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.png 0\nnone.png 1\n# !\nmine.png 1",
            [":2: {}/none.png is not there", ":4: {}/mine.png is not there"],
        ),
        ("a.png 0\nmy.png 1\nx,y.png\nc.png 1", [":3: 1 column, where most lines have 2"]),
        ("a.png,0\nc.png,1,2\n", [":2: 3 columns, where most lines have 2"]),
        ("a.png,0\nc.png,\n", [":2: c.png has no label"]),
        ('a.png,0\n"c.png,1\n', [":2: unexpected end of data"]),
        (
            "a.png,0,train\nc.png,1,val\n",
            [": 3 columns; a list has a path and a label, or a first line that"],
        ),
        ("a.png 0\nc.png 1\na.png 1\n", [":3: {}/a.png is 1 here and 0 on line 1"]),
        ("# nothing\n\n", [" names no image"]),
        ("path,label\n", [" names no image"]),
        ("p/a.png 0\np/c.png 1\n", [":1: {}/p/a.png is not there, nor is any other of its 2 images; `root`"]),
        (
            "a.png mug\nc.png alarm clock\n",
            [":2: {}/c.png alarm is not there; where a label has spaces, sep"],
        ),
        ("a.png 0\nmy dir 1\n", [":2: {}/my dir is no file"]),
        (b"a.png\0\xff", [" is no text: it holds a zero byte"]),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    write: Write, tmp_path: Path, text: str | bytes, message: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        image_list(write(text))
    assert len(caught.value.causes) == len(message)
    for cause, told in zip(caught.value.causes, message, strict=True):
        assert cause.startswith(f"{tmp_path}/list.txt{told.format(tmp_path)}")


def test_missing_images_and_wrong_labels_are_told_together(write: Write, tmp_path: Path) -> None:
    names = write("clean\nrust\n", "names.txt")
    with pytest.raises(DataError) as caught:
        image_list(write("a.png 0\nno.png 1\nc.png 2\nx,y.png dust\n"), names=names)
    assert [cause.removeprefix(f"{tmp_path}/list.txt:") for cause in caught.value.causes] == [
        f"2: {tmp_path}/no.png is not there",
        f"3: label 2 is none of the 2 names of {names}, 0 to 1",
        f"4: label dust is none of the 2 names of {names}, 0 to 1",
    ]
    for text, told in (("a\nb\na\n", ":3: the name a stands twice, first on line 1"), ("", " holds no name")):
        with pytest.raises(DataError, match=f"names.txt{told}"):
            image_list(write("a.png 0\nc.png 1"), names=write(text, "names.txt"))
    with pytest.raises(DataError, match="there is no file .*absent.txt"):
        image_list(tmp_path / "absent.txt")


def spec(path: Path, **more: object) -> DomainSpec:
    return DomainSpec.model_validate({"list": str(path), **{k: str(v) for k, v in more.items()}})


def test_a_domain_of_a_list_and_its_test_list(write: Write, tmp_path: Path) -> None:
    train, test = write("a.png 1\nmy dir/b c.png 0\n"), write("c.png 1\n", "test.txt")
    domain = open_with_labels(spec(train, test=test), 4)
    assert domain.classes == ("0", "1") and isinstance(domain.train, Labelled)
    assert domain.train.y.tolist() == [1, 0] and [int(x.mean()) for x in domain.train.x] == [0, 10]
    assert isinstance(domain.test, Labelled) and domain.test.y.tolist() == [1]
    write("c.png 1\nx,y.png 2\n", "test.txt")
    with pytest.raises(
        DataError, match="training and test lists have other classes; the test list alone has 2"
    ):
        open_with_labels(spec(train, test=test), 4)
    write("c.png 1\na.png 1\n", "test.txt")
    with pytest.raises(DataError, match=r"have 1 images in common, such as .*/a\.png: training would see"):
        open_with_labels(spec(train, test=test), 4)


def test_another_label_is_another_domain_and_left_alone_it_is_none(write: Write) -> None:
    first = open_with_labels(spec(write("a.png 1\nc.png 0\n")), 4)
    second = open_with_labels(spec(write("a.png 0\nc.png 1\n")), 4)
    assert first.fingerprint != second.fingerprint and first.sample_fingerprint == second.sample_fingerprint
    assert isinstance(second.train, Labelled) and second.train.y.tolist() == [0, 1]
    without = DomainSpec(list=str(write("a.png 0\nc.png 1\n")), labelled=False)
    assert isinstance(open_with_labels(without, 4).train, Unlabelled)


def test_a_list_and_a_folder_of_the_same_images_are_the_same_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = []
    for name in ("clean", "rust"):
        (tmp_path / "lab" / name).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 4096, (9, 7)).astype(np.uint16)  # white is found over all files
            Image.fromarray(pixels).save(tmp_path / "lab" / name / f"{index}.png")
            lines.append(f"{name}/{index}.png {name}")
    (tmp_path / "lab.txt").write_text("\n".join(lines))
    folder = open_with_labels(DomainSpec(folder=str(tmp_path / "lab")), 8)
    listed = open_with_labels(spec(tmp_path / "lab.txt", root=tmp_path / "lab"), 8)
    assert listed.fingerprint == folder.fingerprint and listed.white_level == folder.white_level == 4095
    (tmp_path / "lab" / "rust" / "1.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"rust/1\.png is not an image that can be read"):
        open_with_labels(spec(tmp_path / "lab.txt", root=tmp_path / "lab"), 8)


def test_of_a_target_list_nothing_tells_the_labels(write: Write, tmp_path: Path) -> None:
    names = write("clean\nrust\nnew\n", "names.txt")
    source = write("a.png 0\nmy dir/b c.png 1\nx,y.png 0\nc.png 1\n")
    target = write("image,class\na.png,0\nc.png,0\n", "t.txt")
    content = {"source": spec(source, names=names), "target": spec(target, names=names)}
    task = load_task(TaskSpec.model_validate({k: v.model_dump() for k, v in content.items()}), 4)
    assert task.classes == ("clean", "rust") and len(task.target) == 2
    assert [note.message.removeprefix(f"{tmp_path}/") for note in task.notes if not note.warning] == [
        f"names.txt: 1 of 3 names have no image in {source}",
        "t.txt:1: taken for the columns' names: image …",
    ]


def test_images_of_a_list_are_checked_as_those_of_a_folder(write: Write) -> None:
    from iimt_search.inspect.check import check_task

    source = write("a.png 0\nmy dir/b c.png 1\nx,y.png 0\nc.png 1\n")
    task = {"source": {"list": str(source)}, "target": {"list": str(write("a.png\nc.png\n", "t.txt"))}}
    space = Space.model_validate(
        {"schema": 1, "study": "s", "tasks": [task], "train": {"image_size": 16, "batch_size": 2}}
    )
    found = check_task(space.tasks[0], space)
    assert any("enlarged from 5 to 16 pixels" in finding.message for finding in found.findings)
