"""The command line, in process, on one tiny study."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import iimt_search
from iimt_search.cli.main import cli
from iimt_search.cli.progress import duration
from iimt_search.data.assemble import load_task
from iimt_search.errors import StudyInterruptedError
from iimt_search.space.task_spec import TaskSpec


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_space_text: str) -> Iterator[Path]:
    """A folder with the tiny study, run once for this module."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(tiny_space_text)
    result = invoke(
        "run",
        "--space",
        folder / "tiny.yaml",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--studies-dir",
        folder / "s",
    )
    assert result.exit_code == 0, result.output
    assert "best: " in result.output and "iimt-search best --study tiny --export" in result.output
    yield folder


def best_json(root: Path, *more: str) -> dict[str, Any]:
    result = invoke("best", "--studies-dir", root / "s", "--json", *more)
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def test_best_tells_what_was_chosen(root: Path) -> None:
    content = best_json(root)
    assert {"study", "trial", "answer", "params", "score", "scores"} <= content.keys()
    assert content["study"] == "tiny" and content["answer"] in ("trial", "source-only")
    assert set(content["scores"]) == {"digits->digits-m", "digits->syn-digits"}
    text = invoke("best", "--study", "tiny", "--studies-dir", root / "s").output
    assert f"{content['score']:.4f}" in text


def test_export_load_and_predict_exactly_what_was_retrained(root: Path) -> None:
    content = best_json(root, "--export", str(root / "out"))
    folder = Path(content["exported"]["digits->syn-digits"])
    assert {p.name for p in folder.iterdir()} == {
        *("model.safetensors", "model.json", "MODEL_CARD.md", "member-1.safetensors"),
    }
    described = json.loads((folder / "model.json").read_text())
    expected = content["retrained"]["digits->syn-digits"]
    assert described["scores"] == expected
    assert (
        described["data_fingerprint"]
        == load_task(TaskSpec.model_validate("digits->syn-digits"), 8).fingerprint
    )
    assert described["classes"] == list("0123456789")
    # A new process, nothing but the folder: the same logits to the last bit.
    code = (
        "import sys, torch, iimt_search\n"
        "from safetensors.torch import load_file, save_file\n"
        "torch.set_num_threads(int(sys.argv[4]))\n"
        "model = iimt_search.load_model(sys.argv[1])\n"
        "with torch.no_grad(): save_file({'logits': model(load_file(sys.argv[2])['x'])}, sys.argv[3])\n"
    )
    from safetensors.torch import load_file, save_file

    target = load_task(TaskSpec.model_validate("digits->syn-digits"), 8).target
    x = torch.from_numpy(target.x[:200])
    save_file({"x": x}, root / "x.safetensors")
    arguments = [folder, root / "x.safetensors", root / "y.safetensors", torch.get_num_threads()]
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    part = target.subset(np.arange(200))
    with torch.no_grad():
        here = iimt_search.load_model(folder)(torch.from_numpy(part.gather()))
    assert torch.equal(load_file(root / "y.safetensors")["logits"], here)


def test_export_again_replaces_and_leaves_other_folders_alone(root: Path) -> None:
    out = root / "again"
    best_json(root, "--export", str(out))
    best_json(root, "--export", str(out))
    other = root / "other" / "digits_to_digits-m"
    other.mkdir(parents=True)
    (other / "precious.txt").write_text("mine")
    result = invoke("best", "--studies-dir", root / "s", "--export", root / "other")
    assert result.exit_code == 2 and "is no exported model" in result.output
    assert (other / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_predict_reads_images_of_any_mode_and_size(root: Path, mode: str) -> None:
    content = best_json(root, "--export", str(root / "predict"))
    pixels = np.random.default_rng(0).integers(0, 255, (23, 31, 3), dtype=np.uint8)
    path = root / f"{mode}.png"
    Image.fromarray(pixels).convert(mode).save(path)
    folder = content["exported"]["digits->digits-m"]
    (found,) = json.loads(invoke("predict", folder, path, "--json").stdout)
    assert found["image"] == str(path) and found["class"] in "0123456789"
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert f": {found['class']}  (" in invoke("predict", folder, path).output


def test_predict_says_what_is_wrong(root: Path) -> None:
    content = best_json(root, "--export", str(root / "wrong"))
    folder = Path(content["exported"]["digits->digits-m"])
    text = root / "text.png"
    text.write_text("not an image")
    result = invoke("predict", folder, text)
    assert result.exit_code == 1 and f"{text} is not an image" in result.output
    result = invoke("predict", root / "wrong", text)
    assert result.exit_code == 2 and "holds several models" in result.output
    result = invoke("predict", root, text)
    assert result.exit_code == 1 and "model.json is not there" in result.output
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    result = invoke("predict", folder, text)
    assert result.exit_code == 1 and "not a whole exported model" in result.output


def test_status(root: Path) -> None:
    content = json.loads(invoke("status", "--studies-dir", root / "s", "--json").stdout)
    assert content["driver"] is None
    (part,) = content["parts"]
    assert sum(part["trials"].values()) == 3 and part["trials"]["running"] == 0
    assert part["choice"]["score"] == best_json(root)["score"]
    text = invoke("status", "--studies-dir", root / "s").output
    assert "not running" in text and "choice: " in text


@pytest.mark.long
def test_audit(root: Path) -> None:
    before = best_json(root)
    result = invoke("audit", "--studies-dir", root / "s", "--json")
    content = json.loads(result.stdout)
    assert set(content["tasks"]) == {"digits->digits-m", "digits->syn-digits"}
    for row in content["tasks"].values():
        for value in (row["source_only"], row["choice"]["target_accuracy"], row["default"], row["ceiling"]):
            assert 0 <= value <= 100
    gains = [r["choice"]["target_accuracy"] - r["source_only"] for r in content["tasks"].values()]
    assert content["summary"]["choice"]["mean_gain"] == pytest.approx(sum(gains) / 2)
    assert content["summary"]["choice"]["worst_gain"] == pytest.approx(min(gains))
    assert set(content["summary"]["validators"]) >= {"composite", "entropy", "ens_v"}
    assert all(row["oracle"] >= row["choice"]["target_accuracy"] for row in content["tasks"].values())
    text = invoke("audit", "--studies-dir", root / "s", "--no-train").output
    assert "our choice" in text and "ceil-" in text and "composite" in text
    assert best_json(root) == before


def test_run_json_keeps_standard_output_clean(root: Path) -> None:
    arguments = [
        "run",
        "--space",
        root / "tiny.yaml",
        "--workers",
        "0",
        "--studies-dir",
        root / "s",
        "--json",
    ]
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert json.loads(result.stdout)["score"] == best_json(root)["score"]


def test_errors_are_one_line_with_exit_codes(root: Path, tmp_path: Path, tiny_space_text: str) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(tiny_space_text.replace("retrain:", "retrian:"))
    result = invoke("run", "--space", bad, "--studies-dir", tmp_path)
    assert result.exit_code == 2
    assert result.output == f"error: {bad}:8: unknown key 'retrian'; did you mean 'retrain'?\n"
    result = invoke("run", "--space", tmp_path / "absent.yaml")
    assert result.exit_code == 2 and "cannot read the space file: No such file" in result.output
    result = invoke("best", "--studies-dir", tmp_path)
    assert result.exit_code == 1 and "there is no study in" in result.output
    result = invoke("best", "--studies-dir", root / "s", "--study", "tiyn")
    assert result.exit_code == 1 and "there is no study 'tiyn'" in result.output and "tiny" in result.output
    result = invoke("run", "--space", root / "tiny.yaml", "--storage", "nonsense", "--studies-dir", tmp_path)
    assert result.exit_code == 2 and "--storage must be a database URL" in result.output
    result = invoke("run", "--space", root / "tiny.yaml", "--device", "tpu", "--studies-dir", tmp_path)
    assert result.exit_code == 2 and "must be auto, cpu, cuda or cuda:N" in result.output
    result = invoke("run", "--space", root / "tiny.yaml", "--timeout", "soon", "--studies-dir", tmp_path)
    assert result.exit_code == 2 and "error: --timeout soon: " in result.output
    result = invoke(
        "run", "--space", root / "tiny.yaml", "--seed", "5", "--workers", "0", "--studies-dir", root / "s"
    )
    assert result.exit_code == 1 and "begun with other seed" in result.output


def test_a_stopped_run_says_how_to_continue(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iimt_search.study import run as module

    def stopped(*_: object) -> None:
        raise StudyInterruptedError("study 'tiny' is stopped; nothing is lost")

    monkeypatch.setattr(module, "run_study", stopped)
    space = tmp_path / "a space.yaml"
    space.write_text((root / "tiny.yaml").read_text())
    given = ["--space", str(space), "--steps", "3", "--workers", "0", "--studies-dir", str(tmp_path)]
    result = invoke("run", *given)
    assert result.exit_code == 130
    expected = shlex.join(["iimt-search", "run", *given])
    assert result.output.splitlines()[-1].endswith(f"nothing is lost. Continue with: {expected}")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("iimt-search be", "plain,best"),
        ("iimt-search best --stu", "plain,--study\nplain,--studies-dir"),
        ("iimt-search best --studies-dir ROOT --study t", "plain,tiny"),
        ("iimt-search compare --studies-dir ROOT t", "plain,tiny"),
        ("iimt-search best --studies-dir ROOT --study x", ""),
    ],
)
def test_a_shell_completes(root: Path, words: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = words.replace("ROOT", str(root / "s"))
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    environment = {"_IIMT_SEARCH_COMPLETE": "bash_complete"}
    done = CliRunner().invoke(cli, [], prog_name="iimt-search", env=environment)
    assert set(done.stdout.split("\n")) - {""} == set(found.split("\n")) - {""}


def test_debug_shows_the_traceback(root: Path) -> None:
    result = invoke("--debug", "best", "--studies-dir", root / "s", "--study", "tiyn")
    assert result.exit_code == 1 and "Traceback" in result.output


def test_durations() -> None:
    assert [duration(s) for s in (12, 185, 3720)] == ["12 s", "3 min 05 s", "1 h 02 min"]
