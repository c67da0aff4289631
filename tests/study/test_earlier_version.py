"""A study of an earlier version is read, and goes on where it was interrupted.

``data/earlier-study.zip`` is the tiny study of one task, stopped after trial 1's first report, as it was
before packages, settings and attributes were renamed.
"""

import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from iimt_search.cli.main import cli
from iimt_search.records import Event, Report
from iimt_search.space import Space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage.database import sqlite_url
from iimt_search.training.trainable import Trainable

pytestmark = pytest.mark.slow  # its data must have the fingerprints that it had then


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).parent / "data" / "earlier-study.zip") as file:
        file.extractall(tmp_path)
    return tmp_path


def test_it_is_read_as_it_stands(root: Path) -> None:
    runner = CliRunner()
    for verb in (["status"], ["report"], ["score"]):
        result = runner.invoke(cli, [*verb, "--study", "old", "--studies-dir", str(root)])
        assert result.exit_code == 0, result.output
    status = runner.invoke(cli, ["status", "--study", "old", "--studies-dir", str(root)])
    assert "1 complete, 1 paused" in status.output


def test_it_goes_on_to_its_choice_from_its_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, steps, trained = threading.Event(), list[int](), list[tuple[str, int]]()
    (study,) = open_study(root, "old").studies
    before = study.get_trials()
    assert [trial.state for trial in before] == [TrialState.COMPLETE, TrialState.RUNNING]

    class Recording(InlineExecutor):
        def wait(self, timeout: float) -> Sequence[Event]:
            events = super().wait(timeout)
            steps.extend(e.evaluation.step for e in events if isinstance(e, Report) and e.key == "trial-1")
            return events

    advance = Trainable.advance

    def noted(self: Trainable) -> object:
        trained.append((self.job.key, self.next_step))
        return advance(self)

    monkeypatch.setattr(Trainable, "advance", noted)
    folder = StudyFolder(root / "old")
    space = Space.model_validate(study.user_attrs["space"])
    options = RunOptions(sqlite_url(folder.database), "cpu")
    (choice,) = run_study(space, folder, options, Recording, Silent(), stop)
    after = open_study(root, "old").studies[0].get_trials()
    assert len(after) == 3 and after[0] == before[0] and after[1].params == before[1].params
    assert after[1].intermediate_values.items() >= before[1].intermediate_values.items()
    assert steps[:2] == [2, 4] and ("trial-1", 2) not in trained and ("trial-1", 4) in trained
    assert ("source-only", 2) not in trained  # its scores were stored by the earlier version
    assert {candidate.name for candidate in choice.candidates} >= {"trial-0", "source-only"}
    assert (Path(choice.models) / "digits_to_digits-m" / "model.json").exists()
