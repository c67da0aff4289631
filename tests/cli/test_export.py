"""``iimt-search best --export``: formats, model cards, and that nothing half-made is left behind."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import iimt_search
from iimt_search.cli.main import cli
from iimt_search.exporting import convert as write_formats
from iimt_search.exporting.card import UNKNOWN_ACCURACY

TASKS = {"digits->digits-m": "digits_to_digits-m", "digits->syn-digits": "digits_to_syn-digits"}
ONNX = all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))
CORE = {"MODEL_CARD.md", "model.json", "model.safetensors", "member-1.safetensors"}


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, tiny_space_text: str) -> Iterator[Path]:
    """A folder with the tiny study, whose retrainings are ensembles."""
    folder = tmp_path_factory.mktemp("export")
    text = tiny_space_text.replace("retrain: {steps: 5}", "retrain: {steps: 5, seeds: 2}")
    (folder / "tiny.yaml").write_text(text)
    space = iimt_search.load_space(folder / "tiny.yaml", trials=1)
    iimt_search.run(space, studies_dir=folder / "s", workers=0, device="cpu")
    yield folder / "s"


def export(studies: Path, *more: str | Path) -> Result:
    return invoke("best", "--studies-dir", studies, *more)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_card_for_each_model_and_one_for_all(studies: Path, tmp_path: Path) -> None:
    result = export(studies, "--export", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["exported"] == {task: str(tmp_path / "out" / slug) for task, slug in TASKS.items()}
    assert content["differences"] == {task: {} for task in TASKS}
    assert names(tmp_path / "out") == {"MODEL_CARD.md", *TASKS.values()}
    together = (tmp_path / "out" / "MODEL_CARD.md").read_text()
    for task, slug in TASKS.items():
        assert names(tmp_path / "out" / slug) == CORE
        assert f"[{task}]({slug}/MODEL_CARD.md)" in together
        assert UNKNOWN_ACCURACY in (tmp_path / "out" / slug / "MODEL_CARD.md").read_text()


def test_single(studies: Path, tmp_path: Path) -> None:
    assert export(studies, "--export", tmp_path / "out", "--single").exit_code == 0
    for slug in TASKS.values():
        assert names(tmp_path / "out" / slug) == CORE - {"member-1.safetensors"}
        assert "An ensemble of" not in (tmp_path / "out" / slug / "MODEL_CARD.md").read_text()


@pytest.mark.long
def test_formats_are_written_and_checked_on_real_samples(studies: Path, tmp_path: Path) -> None:
    wanted = "torch-export,onnx" if ONNX else "torch-export"
    result = export(studies, "--export", tmp_path / "out", "--format", "safetensors", "--format", wanted)
    assert result.exit_code == 0, result.output
    assert "model.pt2: its logits differ from model.safetensors' by at most" in result.output
    assert "on random and real samples" in result.output
    folder = tmp_path / "out" / "digits_to_digits-m"
    assert names(folder) == CORE | {"model.pt2"} | ({"model.onnx"} if ONNX else set())
    described = json.loads((folder / "model.json").read_text())["formats"]
    assert described["torch-export"]["samples"] == {"random": 64, "real": 64}
    _run_the_card(folder)
    # Exported again without them, none is left.
    assert export(studies, "--export", tmp_path / "out").exit_code == 0
    assert names(folder) == CORE


def _run_the_card(folder: Path) -> None:
    """Run what the card says, as it says it."""
    card = (folder / "MODEL_CARD.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    assert len(blocks) == (3 if ONNX else 2)
    out = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.split()
    # Each format says the same of the same sample.
    assert len(out) == len(blocks) and len(set(out)) == 1 and out[0] in "0123456789"
    (command,) = re.findall(r"^    iimt-search (.*)$", card, re.MULTILINE)
    pixels = np.random.default_rng(0).integers(0, 255, (23, 31, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = invoke(*command.split())
    assert result.exit_code == 0, result.output
    assert (folder / "predictions.csv").read_text().splitlines()[1].startswith("photo.png,")


def test_a_format_that_differs_leaves_everything_as_it_was(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_formats, "TOLERANCE", -1.0)
    arguments = ("--export", tmp_path / "out", "--format", "torch-export")
    result = export(studies, *arguments)
    assert result.exit_code == 1 and "its logits differ from those of model.safetensors" in result.output
    assert not (tmp_path / "out").exists()
    assert export(studies, "--export", tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    assert export(studies, *arguments).exit_code == 1
    assert contents(tmp_path / "out") == before
    assert names(tmp_path / "out") == {"MODEL_CARD.md", *TASKS.values()}


def test_what_is_not_ours_stays(studies: Path, tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD.md").write_text("of somebody else")
    result = export(studies, "--export", tmp_path)
    assert result.exit_code == 2 and "MODEL_CARD.md exists and is no model card of ours" in result.output
    assert names(tmp_path) == {"MODEL_CARD.md"}
    assert (tmp_path / "MODEL_CARD.md").read_text() == "of somebody else"


def test_wrong_options(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = export(studies, "--export", tmp_path / "out", "--format", "onx")
    assert result.exit_code == 2 and "valid: safetensors, torch-export, onnx" in result.output
    result = export(studies, "--format", "onnx")
    assert result.exit_code == 2 and "--format goes with --export" in result.output
    monkeypatch.setattr("iimt_search.exporting.formats.find_spec", lambda name: None)
    result = export(studies, "--export", tmp_path / "out", "--format", "onnx")
    assert result.exit_code == 2
    assert "needs onnx, onnxscript, onnxruntime: pip install 'iimt-search[onnx]'" in result.output
    assert not (tmp_path / "out").exists()


def _accuracies(folder: Path) -> dict[str, str]:
    cards = {slug: (folder / slug / "MODEL_CARD.md").read_text() for slug in TASKS.values()}
    return {slug: card.split("## Accuracy on the target")[1] for slug, card in cards.items()}


def test_audited_accuracies_stand_in_the_card_of_what_was_audited(studies: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s"
    shutil.copytree(studies, copy)
    audits = iimt_search.audit(train=False, studies_dir=copy)
    assert export(copy, "--export", tmp_path / "out").exit_code == 0
    assert export(copy, "--export", tmp_path / "one", "--single").exit_code == 0
    together, single = _accuracies(tmp_path / "out"), _accuracies(tmp_path / "one")
    for task, slug in TASKS.items():
        assert f"| **this model** | **{audits[task].choice:.1f}** |" in together[slug]
        assert f"| **this model** | **{audits[task].single:.1f}** |" in single[slug]
        assert UNKNOWN_ACCURACY not in together[slug]
    # An audit of another choice says nothing of this one.
    stored: dict[str, Any] = json.loads((copy / "tiny" / "audit.json").read_text())
    (copy / "tiny" / "audit.json").write_text(json.dumps({**stored, "digests": ["0" * 64]}))
    assert export(copy, "--export", tmp_path / "out").exit_code == 0
    assert all(UNKNOWN_ACCURACY in found for found in _accuracies(tmp_path / "out").values())


def test_without_the_data_random_samples_must_do(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iimt_search.errors import DataError

    def gone(*_: object) -> None:
        raise DataError("the disk is not here")

    monkeypatch.setattr("iimt_search.data.assemble.load_task", gone)
    result = export(studies, "--export", tmp_path / "out", "--format", "torch-export")
    assert result.exit_code == 0, result.output
    assert "on random samples" in result.output
    model = iimt_search.load_model(tmp_path / "out" / "digits_to_digits-m")
    program = torch.export.load(tmp_path / "out" / "digits_to_digits-m" / "model.pt2").module()
    x = torch.randint(0, 256, (3, *model.sample_shape), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(program(x), model(x), atol=1e-4)
