"""From a folder of images, or a file of series, to an exported model, as docs/own-data.md says."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import iimt_search
from iimt_search.cli.main import cli

TRAIN = "train: {steps: 4, batch_size: 8, image_size: 16, width: 4, evaluations: 2}\n"
SMALL = TRAIN + "budget: {trials: 2}\nconfirm: {top: 1, seeds: 1}\n"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def run(tmp_path: Path, space: str, *more: str) -> Result:
    path = tmp_path / "own.yaml"
    path.write_text(space)
    where = ("--workers", "0", "--device", "cpu", "--studies-dir", tmp_path / "s")
    return invoke("run", "--space", path, *where, *more)


def paint(folder: Path, count: int, brightness: int) -> None:
    """Images whose class is where the bright square lies."""
    rng = np.random.default_rng(brightness)
    folder.mkdir(parents=True)
    left = folder.name == "left"
    for index in range(count):
        pixels = rng.integers(0, 60, (20, 24, 3)).astype(np.uint8)
        pixels[5:15, (2 if left else 12) : (10 if left else 20)] = brightness
        Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("left", "right"):
        paint(tmp_path / "lab" / name, 12, 250)
        paint(tmp_path / "field" / name, 12, 180)
        paint(tmp_path / "held" / name, 5, 180)
    return tmp_path


def test_from_folders_to_an_exported_model(folders: Path) -> None:
    target = "{folder: field/, test: held/}"
    space = f"schema: 1\nstudy: own\ntasks: [{{source: {{folder: lab/}}, target: {target}}}]\n{SMALL}"
    result = run(folders, space)
    assert result.exit_code == 0, result.output
    assert "lab->field: 19 + 5 source, 24 target samples of 3×16×16, 2 classes" in result.output
    out = folders / "out"
    exported = json.loads(invoke("best", "--studies-dir", folders / "s", "--export", out, "--json").stdout)
    folder = Path(exported["exported"]["lab->field"])
    described = json.loads((folder / "model.json").read_text())
    assert described["classes"] == ["left", "right"]
    image = folders / "held" / "left" / "0.png"
    (found,) = json.loads(invoke("predict", folder, image, "--json").stdout)
    assert found["class"] in ("left", "right")
    audit = json.loads(invoke("audit", "--studies-dir", folders / "s", "--json").stdout)
    assert audit["tasks"]["lab->field"]["test_samples"] == 10
    assert audit["tasks"]["lab->field"]["unseen"] is True


def test_a_folder_whose_path_is_not_utf_8(folders: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(folders) + b"/caf\xe9"))
    (folders / "lab").rename(folders / "moved")
    strange.mkdir()
    (folders / "moved").rename(strange / "lab")
    (folders / "field").rename(strange / "field")
    space = "schema: 1\nstudy: own\ntasks: [{source: {folder: lab/}, target: {folder: field/}}]\n" + SMALL
    (strange / "own.yaml").write_text(space)
    where = ("--workers", "0", "--device", "cpu", "--studies-dir", folders / "s")
    result = invoke("run", "--space", strange / "own.yaml", *where)
    assert result.exit_code == 0, result.output
    shown = invoke("data", "show", "--space", strange / "own.yaml", "--out", strange)
    assert shown.output == f"{folders}/caf\\xe9/lab_to_field.png\n"
    (strange / "lab" / "right" / "3.png").write_bytes(b"half a file")
    assert (
        f"{folders}/caf\\xe9/lab/right/3.png is not"
        in invoke("data", "check", "--space", strange / "own.yaml").output
    )


def test_a_flat_target_has_nothing_to_audit(folders: Path) -> None:
    flat = folders / "flat"
    flat.mkdir()
    for index, path in enumerate(sorted((folders / "field").rglob("*.png"))):
        path.rename(flat / f"{index}.png")
    space = "schema: 1\nstudy: own\ntasks: [{source: {folder: lab/}, target: {folder: flat/}}]\n"
    assert run(folders, space + SMALL).exit_code == 0
    result = invoke("audit", "--studies-dir", folders / "s")
    assert (
        result.exit_code == 1 and "the target has no labels, there is nothing to audit with" in result.output
    )


def test_series_from_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.array(["walk", "run"] * 15)
    x = rng.normal(size=(30, 2, 40)) + np.where(y == "run", 3.0, 0.0)[:, None, None]
    np.savez(tmp_path / "watch.npz", x=x, y=y)
    np.savez(tmp_path / "phone.npz", x=5 * x + 1, y=y)
    space = "schema: 1\nstudy: own\ntasks: [{source: {arrays: watch.npz}, target: {arrays: phone.npz}}]\n"
    result = run(tmp_path, space + SMALL)
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    exported = json.loads(invoke("best", "--studies-dir", tmp_path / "s", "--export", out, "--json").stdout)
    folder = exported["exported"]["watch->phone"]
    model = iimt_search.load_model(folder)
    assert (model.kind, model.sample_shape, model.classes) == ("series", (2, 40), ("run", "walk"))
    assert model(torch.from_numpy(5 * x[:3] + 1).float()).shape == (3, 2)
    with pytest.raises(ValueError, match=r"samples must be \(B, 2, 40\), got \(3, 2, 39\)"):
        model(torch.zeros(3, 2, 39))
    found = json.loads(invoke("predict", folder, tmp_path / "phone.npz", "--json").stdout)
    assert len(found) == 30 and all(row["class"] in ("run", "walk") for row in found)
    audit = json.loads(invoke("audit", "--studies-dir", tmp_path / "s", "--json").stdout)
    assert audit["tasks"]["watch->phone"]["unseen"] is False


def test_what_is_wrong_with_the_data_ends_the_run_before_it_begins(folders: Path) -> None:
    (folders / "lab" / "right" / "3.png").write_bytes(b"half a file")
    space = "schema: 1\nstudy: own\ntasks: [{source: {folder: lab/}, target: {folder: field/}}]\n"
    result = run(folders, space + SMALL)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(f"error: {folders}/lab/right/3.png is not an image")


def test_what_was_left_out_is_told_by_check_and_before_a_run(folders: Path) -> None:
    (folders / "lab" / "left" / "phone.HEIC").write_bytes(b"not read")
    (folders / "field" / "@eaDir").mkdir()
    space = "schema: 1\nstudy: own\ntasks: [{source: {folder: lab/}, target: {folder: field/}}]\n"
    result = run(folders, space + SMALL)
    assert result.exit_code == 0
    warning = f"warning: {folders}/lab: skipped files that are no images of a type that is read: 1 .heic\n"
    note = f"note: {folders}/field: skipped what systems leave behind: @eaDir (1)\n"
    before, _, _ = result.output.partition("search: ")
    assert warning in before and note in before
    checked = invoke("data", "check", "--space", folders / "own.yaml")
    assert warning in checked.output and note in checked.output
    (task,) = json.loads(invoke("data", "check", "--space", folders / "own.yaml", "--json").stdout)["tasks"]
    assert [f"note: {text}\n" for text in task["notes"]] == [note]
    assert {"kind": "skipped", "message": warning[9:-1]} in task["warnings"]


def test_one_class_folder_and_other_classes(folders: Path) -> None:
    space = "schema: 1\nstudy: own\ntasks: [{source: {folder: SOURCE}, target: {folder: field/}}]\n" + SMALL
    paint(folders / "one" / "left", 9, 200)
    result = run(folders, space.replace("SOURCE", "one/"))
    assert result.exit_code == 1 and "has 1 class, there is nothing to tell apart" in result.output
    paint(folders / "one" / "up", 9, 200)
    result = run(folders, space.replace("SOURCE", "one/"))
    assert result.exit_code == 1 and "classes right are not among the source's (left, up)" in result.output
    assert not (folders / "s" / "own" / "study.db").exists()  # nothing half-made


def test_too_few_samples_for_a_batch(folders: Path) -> None:
    space = "schema: 1\nstudy: own\ntasks: [{source: {folder: lab/}, target: {folder: field/}}]\n"
    result = run(folders, space + SMALL.replace("batch_size: 8", "batch_size: 20"))
    assert (
        result.exit_code == 1 and "source has 19 training samples, fewer than a batch of 20" in result.output
    )


def test_a_searched_batch_larger_than_the_data_is_told_and_the_advice_works(folders: Path) -> None:
    space = "schema: 1\nstudy: own\ntasks: [{source: {folder: lab/}, target: {folder: field/}}]\n"
    searched = SMALL.replace("batch_size: 8, ", "") + "search: {batch_size: {choices: [8, 16, 32]}}\n"
    result = run(folders, space + searched)
    assert (
        result.exit_code == 1
        and "fewer than a batch of 32; give search.batch_size values of at most 19" in result.output
    )
    assert run(folders, space + searched.replace(", 32", "")).exit_code == 0


def test_what_is_wrong_with_any_task_is_told(folders: Path) -> None:
    tasks = "".join(
        f"- {{source: {{folder: {name}/}}, target: {{folder: field/}}}}\n" for name in ("no", "lab", "nope")
    )
    result = run(folders, f"schema: 1\nstudy: own\ntasks:\n{tasks}{SMALL}")
    assert result.exit_code == 1 and "error: 2 things are wrong with the data\n" in result.output
    assert (
        f"there is no folder {folders}/no\n" in result.output
        and f"no folder {folders}/nope\n" in result.output
    )
    assert not (folders / "s" / "own" / "study.db").exists()


def test_reduced_size_and_configurations_to_run_first(tmp_path: Path) -> None:
    space = (
        "schema: 1\nstudy: own\ntasks: [digits->digits-m]\nsearch: {w_q: {choices: [0.0, 1.0]}, "
        "alpha: {low: 0.1, high: 2}}\n"
        "first: [{w_q: 0.0}, {w_q: 0.0, alpha: 0.5}]\nretrain: {steps: 9}\n"
    )
    result = run(
        tmp_path,
        space + TRAIN + "budget: {trials: 3}\npruner: none\nconfirm: {top: 1, seeds: 1}\n",
        "--steps",
        "2",
        "--data-fraction",
        "0.1",
    )
    assert result.exit_code == 0, result.output
    assert "108 + 27 source, 135 target samples of 3×16×16" in result.output
    from iimt_search.study.open import open_study

    (study,) = open_study(tmp_path / "s", "own").studies
    assert [t.params for t in study.trials] == [
        {"w_q": 1.0, "alpha": 1.0},
        {"w_q": 0.0, "alpha": 1.0},
        {"w_q": 0.0, "alpha": 0.5},
    ]
    assert all(t.last_step == 2 for t in study.trials)
    bad = run(tmp_path, space.replace("alpha: 0.5}", "alpha: 5}") + TRAIN)
    assert bad.exit_code == 2 and "own.yaml:5: first: alpha must be from 0.1 to 2, got 5" in bad.output


@pytest.mark.long
@pytest.mark.skipif(find_spec("aeon") is None, reason="the recordings are in the package aeon")
def test_wrist_recordings_from_search_to_audit(tmp_path: Path) -> None:
    space = Path(__file__).parents[2] / "spaces" / "motions.yaml"
    where = ("--workers", "0", "--studies-dir", tmp_path / "s")
    assert invoke("run", "--space", space, "--steps", "60", "--trials", "2", *where).exit_code == 0
    audit = json.loads(invoke("audit", "--studies-dir", tmp_path / "s", "--json").stdout)
    assert set(audit["tasks"]) == {"motions->motions-turned", "motions-turned->motions"}
    assert all(row["test_samples"] == 12 for row in audit["tasks"].values())
    # Chance is 25 %.
    assert audit["summary"]["choice"]["target_accuracy"] > 60
