"""A trial that is trained again from its record comes out the same, or what is otherwise is told."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from sqlalchemy import create_engine, text
from torch import nn

import iimt_search
from iimt_search.cli.main import cli
from iimt_search.errors import NonFiniteLossError, StudyError, StudyMismatchError
from iimt_search.records import Evaluation
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.study import rerun as module
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.training.kept import KeptModel
from iimt_search.training.trainable import Trainable

SPACE = {
    "schema": 1,
    "study": "again",
    "tasks": ["digits->digits-m"],
    "train": {"steps": 4, "batch_size": 8, "image_size": 8, "width": 4, "evaluations": 2},
    "budget": {"trials": 3},
    "reference": {"trials": 1},
    "pruner": {"name": "percentile", "percentile": 99, "startup_trials": 1, "warmup": 0.3},
    "sampler": {"name": "random"},
    "confirm": {"top": 1, "seeds": 1},
    "retrain": {"steps": 4, "seeds": 1},
}


def failing(self: Trainable, advance: Any = Trainable.advance) -> Evaluation:
    """Train, but let the third trial fail."""
    if self.job.candidate == "trial-2" and self.history:
        raise NonFiniteLossError("source", 3)
    evaluation: Evaluation = advance(self)
    return evaluation


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    folder = StudyFolder(root / "again")
    options = RunOptions(folder.choose_storage(None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainable, "advance", failing)
        run_study(Space.model_validate(SPACE), folder, options, InlineExecutor, Silent(), threading.Event())
    (part,) = iimt_search.status("again", studies_dir=root)["parts"]
    assert {state: n for state, n in part["trials"].items() if n} == {"complete": 1, "pruned": 1, "fail": 1}
    return root


@pytest.mark.parametrize("trial", [0, 1, 2])
def test_it_comes_out_the_same(studies: Path, trial: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainable, "advance", failing)
    before = sorted(studies.rglob("*"))
    (again,) = iimt_search.rerun(trial, studies_dir=studies, device="cpu")
    assert again.same, again.differences
    assert (again.trial, again.arithmetic) == (trial, "float32")
    assert again.step == (4 if trial == 0 else 2) and again.compared > 3
    assert sorted(studies.rglob("*")) == before


def test_it_is_trained_in_the_threads_of_the_run(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    seen = []

    def advance(self: Trainable, advance: Any = failing) -> Evaluation:
        seen.append(torch.get_num_threads())
        evaluation: Evaluation = advance(self)
        return evaluation

    monkeypatch.setattr(Trainable, "advance", advance)
    try:
        torch.set_num_threads(threads + 2)
        (again,) = iimt_search.rerun(0, studies_dir=studies, device="cpu")
        assert set(seen) == {threads} and again.threads == threads and again.same
        assert torch.get_num_threads() == threads + 2
        monkeypatch.setattr(module, "load_kept_model", lambda _: KeptModel(nn.Identity(), TrainSettings(), 0))
        (again,) = iimt_search.rerun(0, studies_dir=studies, device="cpu")  # an earlier version's
        assert again.threads == threads + 2
    finally:
        torch.set_num_threads(threads)


def test_what_comes_out_otherwise_is_told(studies: Path) -> None:
    (again,) = iimt_search.rerun(2, studies_dir=studies, device="cpu")  # it does not fail this time
    (difference,) = (each for each in again.differences if each.what == "error")
    error = "loss term 'source' was not finite at step 3"
    assert (difference.what, difference.recorded, difference.now) == ("error", error, "")

    engine = create_engine(f"sqlite:///{studies / 'again' / 'study.db'}")
    query = text("SELECT value_json FROM trial_user_attributes WHERE key = 'scores' AND trial_id = 1")
    write = text("UPDATE trial_user_attributes SET value_json = :v WHERE key = 'scores' AND trial_id = 1")
    with engine.begin() as connection:
        whole = connection.execute(query).scalar_one()
        scores = json.loads(whole)
        entropy = scores["digits->digits-m"]["entropy"]
        scores["digits->digits-m"]["entropy"] = entropy + 1e-9
        connection.execute(write, {"v": json.dumps(scores)})
    given = ["rerun", "trial-0", "--studies-dir", str(studies), "--device", "cpu"]
    result = CliRunner().invoke(cli, [*given, "--json"])
    (content,) = json.loads(result.stdout)
    assert result.exit_code == 0 and content["same"] is False
    what = "digits->digits-m: entropy"
    assert content["differences"] == [{"what": what, "recorded": entropy + 1e-9, "now": entropy}]
    result = CliRunner().invoke(cli, given)
    assert "values came out otherwise" in result.output and repr(entropy) in result.output
    with engine.begin() as connection:
        connection.execute(write, {"v": whole})
    engine.dispose()
    result = CliRunner().invoke(cli, ["rerun", "0", *given[2:]])
    assert "trial 0 of 'again', trained to step 4 in float32 by " in result.output
    assert ": the same, " in result.output


def test_what_cannot_be_trained_again_is_refused(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyError, match="study 'again' has no trial 7"):
        iimt_search.rerun(7, studies_dir=studies)
    result = CliRunner().invoke(cli, ["rerun", "best", "--studies-dir", str(studies)])
    assert result.exit_code == 2 and "as 3 or trial-3, got 'best'" in result.output

    class Other:
        fingerprint = "other"

    monkeypatch.setattr(module, "load_trainable", lambda *_: Other)
    with pytest.raises(StudyMismatchError, match="the data of digits->digits-m is not what the study was"):
        iimt_search.rerun(0, studies_dir=studies)


@pytest.mark.long
def test_with_a_scope_for_each_task_each_has_its_own(tmp_path: Path) -> None:
    both = {"tasks": ["digits->digits-m", "digits->syn-digits"], "scope": "per_task", "budget": {"trials": 1}}
    folder = StudyFolder(tmp_path / "again")
    options = RunOptions(folder.choose_storage(None))
    run_study(
        Space.model_validate({**SPACE, **both}), folder, options, InlineExecutor, Silent(), threading.Event()
    )
    reruns = iimt_search.rerun(0, studies_dir=tmp_path, device="cpu")
    assert [each.study for each in reruns] == ["again:digits->digits-m", "again:digits->syn-digits"]
    assert all(each.same for each in reruns)
