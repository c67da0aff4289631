"""The public library."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState
from safetensors.torch import save_file

import iimt_search
from iimt_search.cores import usable_cores
from iimt_search.errors import SpaceError, StudyError, StudyInterruptedError, UsageError
from iimt_search.judging.files import ARRAYS
from iimt_search.records import job_key
from iimt_search.study.executors.choose import _guarded
from iimt_search.study.open import open_study
from iimt_search.study.progress import Snapshot
from iimt_search.study.selection.choice import read_mark
from iimt_search.task_name import slug
from iimt_search.training.kept import load_kept_predictions
from iimt_search.validators.registry import VALIDATORS

ROOT = Path(__file__).parents[1]
TASKS = ("digits->digits-m", "digits->syn-digits")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, tiny_space_text: str) -> Iterator[Path]:
    """A folder with the tiny study, run by the library."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "tiny.yaml").write_text(tiny_space_text)
    lines: list[str] = []
    space = iimt_search.load_space(folder / "tiny.yaml", trials=2)
    choices = iimt_search.run(space, studies_dir=folder / "s", workers=0, device="cpu", progress=lines.append)
    assert len(choices) == 1 and any(line.startswith("search: ") for line in lines)
    yield folder


def test_the_public_names() -> None:
    names = {"audit", "best", "compare", "export", "load_model", "load_space", "rerun", "run", "score"}
    names |= {"status", "IIMTClassifier", "audit_models", "choose", "validator_scorer", "write_report"}
    assert set(iimt_search.__all__) == names | {"__version__"}
    for name in names:
        assert getattr(iimt_search, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'bset'"):
        _ = iimt_search.bset


def test_values_in_the_place_of_the_files(tiny_space: Path) -> None:
    plain = iimt_search.load_space(str(tiny_space))
    assert (plain.study, plain.budget.trials, plain.train.steps, plain.retrain.steps) == ("tiny", 3, 4, 5)
    space = iimt_search.load_space(
        tiny_space, study="other", seed=7, trials=9, timeout="2m", steps=6, data_fraction=0.5
    )
    assert (space.study, space.seed, space.budget.trials, space.budget.timeout) == ("other", 7, 9, 120.0)
    # The retraining follows, else it would be shorter than what it is to improve on.
    assert (space.train.steps, space.retrain.steps, space.train.data_fraction) == (6, None, 0.5)
    assert (space.train.batch_size, space.tasks) == (plain.train.batch_size, plain.tasks)


def test_what_is_wrong_with_a_space(tiny_space: Path) -> None:
    with pytest.raises(UsageError, match="`steps=0`: "):
        iimt_search.load_space(tiny_space, steps=0)
    with pytest.raises(UsageError, match="`timeout=soon`: "):
        iimt_search.load_space(tiny_space, timeout="soon")
    tiny_space.write_text(tiny_space.read_text() + "objective: compsite\n")
    with pytest.raises(SpaceError, match=r"tiny.yaml:\d+: objective: unknown .* did you mean 'composite'"):
        iimt_search.load_space(tiny_space)


def test_best_is_what_run_returned_and_running_again_does_nothing(studies: Path) -> None:
    (choice,) = iimt_search.best(studies_dir=studies / "s")
    assert choice.study == "tiny" and set(choice.retrained) == set(TASKS)
    space = iimt_search.load_space(studies / "tiny.yaml", trials=2)
    assert iimt_search.run(space, studies_dir=studies / "s", workers=0, device="cpu") == [choice]
    (study,) = open_study(studies / "s", "tiny").studies
    assert len(study.get_trials()) == 2
    assert all(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in study.get_trials())


def test_export_and_load(studies: Path, tmp_path: Path) -> None:
    exported = iimt_search.export(tmp_path / "out", "tiny", single=True, studies_dir=studies / "s")
    assert set(exported) == set(TASKS)
    found = exported[TASKS[1]]
    assert found.folder == tmp_path / "out" / "digits_to_syn-digits" and found.members == 1
    model = iimt_search.load_model(found.folder)
    assert model(torch.zeros(2, 1, 20, 30, dtype=torch.uint8)).shape == (2, 10)


def test_models_judged_from_files_are_scored_as_in_a_study(studies: Path, tmp_path: Path) -> None:
    (choice,) = iimt_search.best(studies_dir=studies / "s")
    for task in TASKS:
        folder = tmp_path / slug(task)
        folder.mkdir()
        for candidate in choice.candidates:
            job = studies / "s" / "tiny" / "kept" / job_key("confirmation", candidate.name)
            (kept,) = [load_kept_predictions(path) for path in (job / slug(task)).glob("4.safetensors")]
            arrays = {
                name: getattr(kept, array.field) for name, array in ARRAYS.items() if "." not in array.field
            }
            held = {n: v for n, v in arrays.items() if v is not None and not n.endswith("probabilities")}
            save_file(held, folder / f"{candidate.name}.safetensors")
        found = iimt_search.choose(folder, objective="source_accuracy")
        assert set(found.scores) == {candidate.name for candidate in choice.candidates}
        mine = found.scores[choice.candidate]
        shared = set(mine) & set(choice.scores[task])
        assert shared > {"source_accuracy", "embedding_spread", "bnm", "class_ami"}
        expected = {name: choice.scores[task][name] for name in shared}
        assert {name: mine[name] for name in shared} == pytest.approx(expected, nan_ok=True)


def test_audit_marks_and_keeps(studies: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s"
    shutil.copytree(studies / "s", copy)
    told: list[tuple[str, int, int]] = []
    audits = iimt_search.audit(train=False, progress=lambda *count: told.append(count), studies_dir=copy)
    assert set(audits) == set(TASKS) and told[-1][1] == told[-1][2]
    assert all(0 <= each.choice <= each.oracle <= 100 for each in audits.values())
    assert all(each.default is None and each.ceiling is None for each in audits.values())
    assert set(audits[TASKS[0]].validators) <= set(VALIDATORS)
    assert read_mark(open_study(copy, "tiny").studies[0]) is not None
    assert (copy / "tiny" / "audit.html").exists()
    assert read_mark(open_study(studies / "s", "tiny").studies[0]) is None


def test_where_a_study_stands_and_what_it_is_compared_with(studies: Path, tmp_path: Path) -> None:
    found = iimt_search.status(studies_dir=studies / "s")
    assert (found["study"], found["driver"], found["place"]) == ("tiny", None, f"{studies / 's' / 'tiny'}/")
    (part,) = found["parts"]
    assert sum(part["trials"].values()) == 2 and part["choice"]["answer"]
    with pytest.raises(UsageError, match="two different studies are compared, got 'tiny' twice"):
        iimt_search.compare("tiny", "tiny", studies_dir=studies / "s")
    with pytest.raises(StudyError, match="there is no study 'other'"):
        iimt_search.compare("tiny", "other", studies_dir=studies / "s")


def test_scores_and_the_preferred_checkpoints(studies: Path, tmp_path: Path) -> None:
    counts: list[tuple[str, int, int]] = []
    where = {"studies_dir": studies / "s"}
    found = iimt_search.score(
        validators=["bnm"], export=tmp_path / "out", progress=lambda *count: counts.append(count), **where
    )
    assert counts[-1] == ("scored", len(found.checkpoints), len(found.checkpoints))
    assert set(found.preferred) == set(found.exported) == set(TASKS)
    for task, folder in found.exported.items():
        best = found.preferred[task]["bnm"]
        assert best is not None
        mine = [each.scores["bnm"] for each in found.checkpoints if each.kept.task == task]
        assert best.scores["bnm"] == max(mine) and len(mine) > 1
        assert iimt_search.load_model(folder).metadata["scores"] == best.scores
    assert len(iimt_search.score(every_step=True, **where).checkpoints) > len(found.checkpoints)
    with pytest.raises(UsageError, match="`export` needs exactly one"):
        iimt_search.score(export=tmp_path / "all", **where)
    with pytest.raises(UsageError, match="there is no validator 'bmn'"):
        iimt_search.score(validators=["bmn"], **where)


@pytest.mark.long
def test_the_report_and_the_dashboards_figures(studies: Path, tmp_path: Path) -> None:
    shutil.copytree(studies / "s", tmp_path / "s")
    page = tmp_path / "page.html"
    report = iimt_search.write_report(output=page, figures=tmp_path / "f", studies_dir=tmp_path / "s")
    assert (report.study, report.path) == ("tiny", page) and "learning-curves" in report.names
    assert report.figures is not None and len(report.figures.json) == len(report.names)
    assert report.dashboard.startswith("dashboard: ") and report.dashboard.endswith(" images")
    assert page.read_text().startswith("<!doctype html>")


def test_a_listener_gets_lines_and_snapshots(studies: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    shares: list[float] = []

    class Watching:
        def line(self, text: str) -> None:
            lines.append(text)

        def snapshot(self, snapshot: Snapshot) -> None:
            shares.append(snapshot.done)

    space = iimt_search.load_space(studies / "tiny.yaml", trials=1, study="watched")
    before = os.environ["IIMT_DATA"]
    where = {"studies_dir": tmp_path, "data_root": tmp_path / "data", "device": "cpu"}
    iimt_search.run(space, **where, workers=0, population=2, progress=Watching())
    place = f"0 workers on {usable_cores()} cores, 2 trials in each"
    assert lines[0] == f"study 'watched' in {tmp_path / 'watched'}/, {place}"
    assert lines[-1].startswith("dashboard: ") and lines[-1].endswith(" images")
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1
    assert os.environ["IIMT_DATA"] == before


def test_schedules_of_ray_are_refused(tiny_space: Path, tmp_path: Path) -> None:
    tiny_space.write_text(tiny_space.read_text() + "pruner: pbt\n")
    with pytest.raises(UsageError, match="pruner pbt is Ray Tune's"):
        iimt_search.run(iimt_search.load_space(tiny_space), studies_dir=tmp_path / "s", workers=0)
    assert not (tmp_path / "s").exists()


def test_errors_are_those_of_the_command_line(tmp_path: Path, tiny_space: Path) -> None:
    with pytest.raises(StudyError, match="there is no study in"):
        iimt_search.best(studies_dir=tmp_path)
    with pytest.raises(StudyError, match="there is no study 'absent'"):
        iimt_search.export(tmp_path / "out", "absent", studies_dir=tmp_path)
    space = iimt_search.load_space(tiny_space)
    with pytest.raises(UsageError, match=r"`workers >= 0` must hold, got -1"):
        iimt_search.run(space, studies_dir=tmp_path, workers=-1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(StudyInterruptedError, match="is stopped"):
        iimt_search.run(space, studies_dir=tmp_path, workers=0, stop=stop)


@pytest.mark.parametrize(
    ("source", "line", "guarded"),
    [
        ("run()", 1, False),
        ("if __name__ == '__main__':\n    run()", 2, True),
        ("def f():\n    run()\nif '__main__' == __name__:\n    f()", 4, True),
        ("if True:\n    run()", 2, False),
        ("if __name__ == '__main__':\n    pass\nrun()", 3, False),
    ],
)
def test_where_a_script_is_guarded(source: str, line: int, guarded: bool) -> None:
    assert _guarded(source, line) is guarded


@pytest.mark.parametrize("command", [["script.py"], ["-m", "script"]])
def test_a_script_without_a_guard_is_told_before_anything_starts(
    command: list[str], tiny_space: Path
) -> None:
    text = f"import iimt_search\niimt_search.run(iimt_search.load_space({str(tiny_space)!r}), workers=1)\n"
    (tiny_space.parent / "script.py").write_text(text)
    found = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=tiny_space.parent, timeout=120
    )
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert "script.py:2: worker processes import this script again" in last
    assert 'under `if __name__ == "__main__":`, or give workers=0' in last
    assert not (tiny_space.parent / "studies").exists()


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """The examples where they may write, with a tenth of the training steps."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    space = tmp_path / "examples" / "quick_start.yaml"
    text = space.read_text()
    assert "steps: 200" in text
    space.write_text(text.replace("steps: 200", "steps: 20"))
    return tmp_path / "examples"


@pytest.mark.slow
def test_the_example_script(examples: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "quick_start.py"]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=examples, env=environment, timeout=500
    )
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert any(line.startswith("chosen without target labels: ") for line in lines)
    assert lines[-1].startswith("target test accuracy ")
    assert len([line for line in lines if line.endswith("%)")]) == 8
    assert (examples / "quick-start-models" / "syn-digits_to_digits" / "model.pt2").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("nbclient") is None or find_spec("ipykernel") is None, reason="nbclient or ipykernel is missing"
)
@pytest.mark.filterwarnings("default")  # the notebook's own server is not ours
def test_the_example_notebook(examples: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(examples / "quick_start.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are kept in the repository
    client = NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(examples)}}
    )
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = cells[-1].outputs[-1]["data"]["text/plain"]
    chosen, source_only = json.loads(shown.replace("(", "[").replace(")", "]"))
    assert 0 <= chosen <= 100 and 0 <= source_only <= 100
    assert "model.pt2" in cells[-3].outputs[-1]["data"]["text/plain"]
