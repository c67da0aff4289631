"""``iimt-search choose``."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from iimt_search.cli.main import cli

LABELS = np.arange(90) % 3


@pytest.fixture
def models(write_model: Callable[..., Path], tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for at, (name, right) in enumerate({"erm": 0.5, "dann": 0.8, "mcc": 0.9, "<b>": 0.7}.items()):
        write_model(folder / f"{name}.npz", right, at)
    np.save(tmp_path / "labels.npy", LABELS)
    return folder


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["choose", *map(str, words)])


def test_the_answer_as_text_and_as_json(models: Path) -> None:
    told = invoke(models, "--baseline", "erm")
    assert told.exit_code == 0, told.output
    assert told.output.startswith("best: mcc\n  consensus ")
    assert "erm (baseline)" in told.output and "shares of the classes" in told.output
    content = json.loads(invoke(models, "--baseline", "erm", "--json").output)
    assert content["answer"] == "model" and content["candidate"] == "mcc"
    assert set(content["shares"]) == {"0", "1", "2"} and "audit" not in content
    assert [model["file"] for model in content["models"]] == [
        str(models / f"{name}.npz") for name in ("<b>", "dann", "erm", "mcc")
    ]


def test_labels_are_read_after_the_choice(models: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    np.save(tmp_path / "labels.npy", LABELS[:4])  # wrong, which is told after the choice is shown and written
    told = invoke(models, "--baseline", "erm", "--audit", tmp_path / "labels.npy", "--html", page)
    assert told.exit_code == 1
    assert told.output.index("best: mcc") < told.output.index("error: ") and page.exists()
    before = page.read_text()
    np.save(tmp_path / "labels.npy", LABELS)
    told = invoke(models, "--baseline", "erm", "--audit", tmp_path / "labels.npy", "--html", page)
    assert told.exit_code == 0, told.output
    assert "mcc (the choice)" in told.output and "picked by consensus" in told.output
    assert "Measured with the target" in page.read_text() and "Measured with the target" not in before
    both = json.loads(
        invoke(models, "--baseline", "erm", "--audit", tmp_path / "labels.npy", "--json").output
    )
    assert both["audit"]["digest"] == both["digest"] and both["audit"]["candidates"]["mcc"] > 80


def test_the_page_is_small_and_whole(models: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "page.html"
    assert invoke(models, "--html", page, "--predictions", tmp_path / "said.npz").exit_code == 0
    text = page.read_text()
    assert len(text) < 30_000 and "<script" not in text and "http://" not in text and "https:" not in text
    assert "<b>" not in text.split("<main>")[1].replace("&lt;b&gt;", "")
    assert "No confident choice, mcc" in text or "no confident choice, mcc" in text
    assert set(np.load(tmp_path / "said.npz")) == {"probabilities", "ensemble"}


def test_errors_name_the_options(models: Path) -> None:
    told = invoke(models, "--baseline", "nobody")
    assert told.exit_code == 2 and "error: --baseline nobody is not among the candidates" in told.output
    told = invoke(models, "--objective", "mixval")
    assert told.exit_code == 2 and "mixval needs mixed_logits" in told.output
    assert "or give another --objective" in told.output
    assert invoke(models / "nothing.npz").exit_code == 2
