"""``iimt-search predict``: folders, arrays, and what cannot be read."""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from iimt_search.cli.main import cli
from iimt_search.data.images import read_image
from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.exporting import predict_files as predict_inputs
from iimt_search.exporting.load import load_model
from iimt_search.exporting.model_folder import export_model
from iimt_search.kinds import Kind
from iimt_search.models.network import Architecture, Model
from iimt_search.settings import TrainSettings

CLASSES = ("left", "right", "up, or down")
SHAPES: dict[Kind, tuple[int, ...]] = {"image": (3, 12, 12), "series": (2, 20), "vector": (5,)}


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One exported model of each kind, untrained but sure of itself."""
    root = tmp_path_factory.mktemp("models")
    for kind, shape in SHAPES.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Model(Architecture("auto", kind, shape, 3, 8, 0.0))
        with torch.no_grad():
            model.classifier.weight.mul_(20)
        x = np.zeros((4, *shape), np.uint8 if kind == "image" else np.float32)
        part = Labelled(x, np.array([0, 1, 2, 0]))
        task = DomainTask("a->b", CLASSES, kind, "none", part, part, Unlabelled(x), "mark")
        export_model(root / kind, model=model, task=task, settings=TrainSettings(), seed=0, step=1, scores={})
    return root


def paint(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (15 + seed, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Seven images in nested folders, beside files that are none."""
    folder = tmp_path / "pictures"
    for seed, name in enumerate(["a.png", "b/c.png", "b/d.JPG", "b/e/f.bmp", "b/e/g.png", "z.png", "é.png"]):
        paint(folder / name, seed)
    (folder / "notes.txt").write_text("no image")
    paint(folder / ".hidden.png", 9)
    paint(folder / ".cache" / "h.png", 9)
    return folder


def expected(models: Path, files: list[Path]) -> torch.Tensor:
    x = np.stack([read_image(path, 12) for path in files])
    with torch.no_grad():
        found: torch.Tensor = load_model(models / "image")(torch.from_numpy(x)).softmax(dim=1)
    return found


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_to_csv(models: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = invoke("predict", models / "image", pictures, "--output", out, "--batch-size", "3")
    assert result.exit_code == 0, result.output
    assert f"7 predictions in {out}" in result.output
    rows = read_csv(out)
    files = [Path(row["path"]) for row in rows]
    seen = [path.relative_to(pictures).as_posix() for path in files]
    assert seen == ["a.png", "z.png", "é.png", "b/c.png", "b/d.JPG", "b/e/f.bmp", "b/e/g.png"]
    assert list(rows[0]) == ["path", "class", "probability", *(f"p({name})" for name in CLASSES), "error"]
    for row, probabilities in zip(rows, expected(models, files), strict=True):
        assert row["class"] == CLASSES[int(probabilities.argmax())] and row["error"] == ""
        assert float(row["probability"]) == pytest.approx(float(probabilities.max()), abs=1e-5)
        found = [float(row[f"p({name})"]) for name in CLASSES]
        assert found == pytest.approx(probabilities.tolist(), abs=1e-5)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_folder_to_json_lines_with_the_top_two(models: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    more = ("--top", "2", "--no-probabilities")
    assert invoke("predict", models / "image", pictures / "b", "--output", out, *more).exit_code == 0
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 4
    for row, probabilities in zip(rows, expected(models, [Path(r["image"]) for r in rows]), strict=True):
        first, second = probabilities.argsort(descending=True)[:2].tolist()
        assert [each["class"] for each in row["top"]] == [CLASSES[first], CLASSES[second]]
        assert row["class"] == CLASSES[first] and "probabilities" not in row
    out = tmp_path / "out.csv"
    invoke("predict", models / "image", pictures / "b", "--output", out, *more)
    titles = ["path", "class", "probability", "class_2", "probability_2", "error"]
    assert list(read_csv(out)[0]) == titles


def test_standard_output(models: Path, pictures: Path) -> None:
    image = pictures / "a.png"
    (probabilities,) = expected(models, [image])
    name, most = CLASSES[int(probabilities.argmax())], float(probabilities.max())
    assert invoke("predict", models / "image", image).stdout == f"{image}: {name}  ({most:.1%})\n"
    lines = invoke("predict", models / "image", image, "--output", "-").stdout.splitlines()
    assert lines[0].startswith("path,class,probability,p(left),") and lines[1].startswith(f"{image},")
    assert len(lines) == 2
    (found,) = json.loads(invoke("predict", models / "image", image, "--json").stdout)
    assert found["image"] == str(image) and set(found["probabilities"]) == set(CLASSES)


def test_broken_images_are_told_one_by_one(models: Path, pictures: Path, tmp_path: Path) -> None:
    broken = pictures / "b" / "c.png"
    broken.write_bytes(b"no image")
    gone = tmp_path / "gone.png"
    out = tmp_path / "out.csv"
    arguments = ("predict", models / "image", pictures, gone, "--output", out)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert f"cannot be read: {broken} is not an image" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: 2 of 8 inputs cannot be read; --skip-errors")
    assert f"6 predictions in {out}" in result.stdout
    rows = {row["path"]: row for row in read_csv(out)}
    assert rows[str(broken)]["error"].startswith(f"{broken} is not an image")
    assert rows[str(broken)]["class"] == rows[str(broken)]["p(left)"] == ""
    assert "No such file" in rows[str(gone)]["error"]
    assert rows[str(pictures / "z.png")]["error"] == "" != rows[str(pictures / "z.png")]["class"]
    assert invoke(*arguments, "--skip-errors").exit_code == 0
    found = json.loads(invoke("predict", models / "image", broken, "--json", "--skip-errors").stdout)
    assert found == [{"image": str(broken), "error": rows[str(broken)]["error"]}]


@pytest.mark.parametrize("kind", ["series", "vector"])
def test_arrays(models: Path, kind: Kind, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(7, *SHAPES[kind]))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "xy.npz", x=x[:3], y=np.array([0, 1, 2]))
    out = tmp_path / "out.csv"
    result = invoke("predict", models / kind, tmp_path, "--output", out, "--batch-size", "4")
    assert result.exit_code == 0, result.output
    rows = read_csv(out)
    assert [(Path(row["path"]).name, row["index"]) for row in rows] == [
        *(("x.npy", str(n)) for n in range(7)),
        *(("xy.npz", str(n)) for n in range(3)),
    ]
    with torch.no_grad():
        probabilities = load_model(models / kind)(torch.from_numpy(x).float()).softmax(dim=1)
    found = torch.tensor([[float(row[f"p({name})"]) for name in CLASSES] for row in rows])
    assert torch.allclose(found[:7], probabilities, atol=1e-5)
    assert torch.allclose(found[7:], probabilities[:3], atol=1e-5)
    text = invoke("predict", models / kind, tmp_path / "x.npy").stdout.splitlines()
    assert len(text) == 7 and text[6].startswith(f"{tmp_path}/x.npy[6]: ")


def test_arrays_of_images(models: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 12, 12, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    found = json.loads(invoke("predict", models / "image", tmp_path / "x.npy", "--json").stdout)
    assert [row["index"] for row in found] == list(range(5))
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        probabilities = load_model(models / "image")(x).softmax(dim=1)
    assert [row["class"] for row in found] == [CLASSES[i] for i in probabilities.argmax(dim=1).tolist()]


def test_what_does_not_fit_the_model(models: Path, pictures: Path, tmp_path: Path) -> None:
    result = invoke("predict", models / "series", pictures / "a.png")
    assert result.exit_code == 1 and "the model classifies series data" in result.output
    np.save(tmp_path / "x.npy", np.zeros((3, 2, 19)))
    result = invoke("predict", models / "series", tmp_path / "x.npy")
    assert result.exit_code == 1 and "samples of (2, 19), but the model takes (2, 20)" in result.output
    np.save(tmp_path / "nan.npy", np.full((3, 5), np.nan))
    result = invoke("predict", models / "vector", tmp_path / "nan.npy")
    assert result.exit_code == 1 and "sample 0 holds NaN or infinity" in result.output
    np.savez(tmp_path / "no_x.npz", z=np.zeros((3, 5)))
    result = invoke("predict", models / "vector", tmp_path / "no_x.npz")
    assert result.exit_code == 1 and "holds no array 'x'" in result.output


def test_a_file_that_ends_early_keeps_what_was_read(models: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 5)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npz").read_bytes()[:40])
    result = invoke("predict", models / "vector", tmp_path / "cut.npy", tmp_path / "a.npz", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and "error" in found[0] and [row["index"] for row in found[1:]] == [0, 1]


def test_names_that_are_not_utf_8(models: Path, pictures: Path, tmp_path: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(pictures) + b"/b/caf\xe9.png"))
    (pictures / "a.png").rename(strange)
    Path(os.fsdecode(os.fsencode(pictures) + b"/b/\xff.png")).write_bytes(b"no image")
    shown = f"{pictures}/b/caf\\xe9.png"
    out = tmp_path / "out.csv"
    result = invoke("predict", models / "image", pictures, "--output", out)
    assert result.exit_code == 1 and f"{pictures}/b/\\xff.png is not an image" in result.stderr
    rows = {row["path"]: row for row in read_csv(out)}
    assert len(rows) == 8 and rows[shown]["class"] in CLASSES
    assert shown in invoke("predict", models / "image", strange).stdout
    lines = tmp_path / "out.jsonl"
    invoke("predict", models / "image", strange, "--output", lines)
    found = json.loads(invoke("predict", models / "image", strange, "--json").stdout)
    assert [Path(row["image"]) for row in found] == [strange]
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.csv"))
    written = invoke("predict", models / "image", strange, "--output", odd)
    assert written.exit_code == 0 and written.stdout.endswith("\\xe9.csv\n") and len(read_csv(odd)) == 1
    assert [Path(json.loads(line)["image"]) for line in lines.read_text().splitlines()] == [strange]


def test_what_a_folder_holds_besides_is_told(models: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "b" / "phone.HEIC").write_bytes(b"not read")
    paint(pictures / "@eaDir" / "thumb.png", 9)
    result = invoke("predict", models / "image", pictures, "--output", tmp_path / "out.csv")
    assert result.exit_code == 0 and "7 predictions in" in result.stdout
    assert "skipped files that are no images of a type that is read: 1 .heic, 1 .txt\n" in result.stderr
    assert "skipped what systems leave behind: @eaDir (1)\n" in result.stderr
    (pictures / "b" / "dead.png").symlink_to("nowhere.png")
    result = invoke("predict", models / "image", pictures, "--output", tmp_path / "out.csv")
    assert result.exit_code == 1 and len(read_csv(tmp_path / "out.csv")) == 8
    assert f"{pictures}/b/dead.png cannot be read as an image: No such file or directory" in result.stderr


@pytest.mark.parametrize("error", [MemoryError("too large"), RuntimeError("odd"), UnicodeError("odd")])
def test_an_error_of_any_kind_in_one_file_leaves_the_others(
    models: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(path: Path, *rest: Any, **more: Any) -> np.ndarray[Any, Any]:
        if path.name == "d.JPG":
            raise error
        return read_image(path, *rest, **more)

    monkeypatch.setattr(predict_inputs, "read_image", failing)
    out = tmp_path / "out.csv"
    result = invoke("predict", models / "image", pictures, "--output", out, "--batch-size", "2")
    assert (
        result.exit_code == 1
        and f"d.JPG cannot be read: {'out of memory: ' * isinstance(error, MemoryError)}" in result.stderr
    )
    assert [bool(row["class"]) for row in read_csv(out)] == [True] * 4 + [False] + [True] * 2


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", None])
def test_what_is_predicted_survives_an_error_of_the_model(
    models: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    whole = predict_inputs.predict_inputs

    def failing(*arguments: Any) -> Iterator[Any]:
        found = whole(*arguments)
        yield next(found)
        yield next(found)
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(predict_inputs, "predict_inputs", failing)
    output = () if name is None else ("--output", tmp_path / name)
    result = invoke("predict", models / "image", pictures, *output)
    assert result.exit_code == 1
    assert "error: stopped after 2 of 7 inputs, which are written: RuntimeError: CUDA error" in result.stderr
    text = result.stdout if name is None else (tmp_path / name).read_text()
    assert "a.png" in text and "z.png" in text and "c.png" not in text


def of_white_level(model: Path, level: float, folder: Path) -> Path:
    """Return a copy of an exported model whose target had images of this white level."""
    shutil.copytree(model, folder)
    content = json.loads((folder / "model.json").read_text())
    content["preprocessing"]["white_level"] = level
    (folder / "model.json").write_text(json.dumps(content))
    return folder


def probabilities_of(model: Path, path: Path) -> list[list[float]]:
    found = json.loads(invoke("predict", model, path, "--json").stdout)
    return [list(row["probabilities"].values()) for row in found]


def test_images_are_scaled_as_in_the_training(models: Path, tmp_path: Path) -> None:
    eight = np.random.default_rng(0).integers(0, 60, (2, 12, 12)).astype(np.uint8)  # dark, and known to be
    np.save(tmp_path / "8.npy", eight)
    expected = probabilities_of(models / "image", tmp_path / "8.npy")
    twelve = (eight * (4095 / 255)).round().astype(np.uint16)
    model = of_white_level(models / "image", 4095, tmp_path / "m12")
    np.save(tmp_path / "12.npy", twelve)
    assert np.allclose(probabilities_of(model, tmp_path / "12.npy"), expected, atol=1e-6)
    Image.fromarray(twelve[1]).save(tmp_path / "12.png")
    assert np.allclose(probabilities_of(model, tmp_path / "12.png"), expected[1:], atol=1e-6)
    assert np.allclose(probabilities_of(model, tmp_path / "8.npy"), expected, atol=1e-6)
    floats = of_white_level(models / "image", 16.0, tmp_path / "f16")
    np.save(tmp_path / "f.npy", eight * (16 / 255))
    assert np.allclose(probabilities_of(floats, tmp_path / "f.npy"), expected, atol=1e-6)


def test_series_whose_channels_are_last(models: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, 20))
    np.save(tmp_path / "first.npy", x)
    np.save(tmp_path / "last.npy", x.transpose(0, 2, 1))
    expected = probabilities_of(models / "series", tmp_path / "first.npy")
    assert np.allclose(probabilities_of(models / "series", tmp_path / "last.npy"), expected)


def test_wrong_options(models: Path, pictures: Path, tmp_path: Path) -> None:
    image = pictures / "a.png"
    result = invoke("predict", models / "image", image, "--output", tmp_path / "out.xls")
    assert result.exit_code == 2 and "--output must end in .csv or .jsonl" in result.output
    result = invoke("predict", models / "image", image, "--output", tmp_path / "out.csv", "--json")
    assert result.exit_code == 2 and "--json, not both" in result.output
    result = invoke("predict", models / "image", image, "--output", tmp_path / "absent" / "out.csv")
    assert result.exit_code == 2 and "absent/out.csv: No such file" in result.output
    (tmp_path / "empty").mkdir()
    result = invoke("predict", models / "image", tmp_path / "empty")
    assert (
        result.exit_code == 2 and "empty holds nothing for this model, whose kind is image" in result.output
    )
    result = invoke("predict", models, image)
    assert result.exit_code == 2 and "holds several models" in result.output
    result = invoke("predict", image, models / "image")
    assert result.exit_code == 1 and "model.json is not there; is " in result.output
    if not torch.cuda.is_available():
        result = invoke("predict", models / "image", image, "--device", "cuda")
        assert result.exit_code == 2 and "PyTorch finds no CUDA device" in result.output


def test_nothing_is_left_of_an_output_that_was_interrupted(
    models: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[object]:
        raise KeyboardInterrupt
        yield

    out = tmp_path / "out.csv"
    out.write_text("of an earlier run")
    monkeypatch.setattr(predict_inputs, "predict_inputs", interrupted)
    assert invoke("predict", models / "image", pictures, "--output", out).exit_code == 1
    assert out.read_text() == "of an earlier run" and not list(tmp_path.glob("*.tmp"))


def test_inputs_are_read_as_they_are_needed(
    models: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noting(path: Path, *rest: Any, **more: Any) -> np.ndarray[Any, Any]:
        read.append(path)
        return read_image(path, *rest, **more)

    many = pictures.parent / "many"
    many.mkdir()
    for at in range(40):
        shutil.copyfile(pictures / "a.png", many / f"{at}.png")
    monkeypatch.setattr("iimt_search.cores.usable_cores", lambda: 1)
    monkeypatch.setattr(predict_inputs, "read_image", noting)
    found = predict_inputs.predict_inputs(load_model(models / "image"), [many], 2)
    for count in range(1, 5):
        next(found)
        assert count <= len(read) <= 15  # a few ahead, so that no core waits
