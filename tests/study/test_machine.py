"""A failure of the machine is no verdict on a configuration, and the baseline cannot vanish."""

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState

from iimt_search.data.registry import DOMAINS
from iimt_search.errors import DataError, MachineError, NonFiniteLossError, machine_failed
from iimt_search.records import Choice, Evaluation
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage.database import sqlite_url
from iimt_search.training.trainable import Trainable
from iimt_search.validators.registry import VALIDATORS


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def space(tiny_space: Path) -> Space:
    content = load_space(tiny_space, KnownNames(DOMAINS, VALIDATORS)).canonical()
    content |= {"tasks": ["digits->digits-m"], "objective": "source_accuracy"}
    return Space.model_validate(content)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iimt_search.study.executors.runner.PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr("iimt_search.study.executors.runner._POLL_SECONDS", 0.0)


def run(space: Space, root: Path, listener: Silent | None = None) -> Choice:
    folder = StudyFolder(root / space.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    stop = threading.Event()
    (choice,) = run_study(space, folder, options, InlineExecutor, listener or Silent(), stop)
    return choice


def fail(monkeypatch: pytest.MonkeyPatch, errors: dict[str, list[Exception]]) -> None:
    """Let jobs raise these at their evaluations, one after the other."""
    advance = Trainable.advance

    def failing(self: Trainable) -> Evaluation:
        if left := errors.get(self.job.key):
            raise left.pop(0)
        return advance(self)

    monkeypatch.setattr(Trainable, "advance", failing)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), True),
        (RuntimeError("No CUDA GPUs are available"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), True),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), True),
        (MemoryError(), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (caused(DataError("x cannot be read"), OSError(errno.ESTALE, "Stale file handle")), True),
        (DataError("a folder named 'out of memory' is empty"), False),
        (NonFiniteLossError("source", 3), False),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (ValueError("k must be positive"), False),
    ],
)
def test_what_is_the_machines_fault(error: Exception, expected: bool) -> None:
    assert machine_failed(error) is expected


def test_a_trial_that_the_machine_failed_does_not_count(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: dict[str, list[Exception]] = {
        "trial-0": [torch.OutOfMemoryError("CUDA out of memory")],
        "trial-1": [torch.OutOfMemoryError("CUDA out of memory") for _ in range(4)],
    }
    fail(monkeypatch, errors)
    listener = Lines()
    run(space, tmp_path, listener)
    with open_study(tmp_path, "tiny") as opened:
        states = [trial.state for trial in opened.studies[0].get_trials()]
    assert states[1] is TrialState.FAIL and states.count(TrialState.FAIL) == 1
    assert len(states) == 1 + 3  # the budget
    (line,) = [line for line in listener.lines if line.startswith("trial 1 ")]
    assert "fail" in line and "the machine failed 4 times: " in line and line.endswith("; it does not count")
    run(space, tmp_path)  # nothing of it is forgotten
    with open_study(tmp_path, "tiny") as opened:
        assert [trial.state for trial in opened.studies[0].get_trials()] == states


def test_a_broken_machine_stops_the_run_and_costs_nothing(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return (
                [RuntimeError("CUDA error: device is busy or unavailable")]
                if "source-only" not in key
                else []
            )

    with monkeypatch.context() as patch:
        fail(patch, Broken())
        with pytest.raises(MachineError, match=r"failed 12 times in a row, last trial-2: .*busy.*run again"):
            run(space, tmp_path)
    choice = run(space, tmp_path)
    assert choice.answer in ("trial", "source-only")
    with open_study(tmp_path, "tiny") as opened:
        trials = opened.studies[0].get_trials()
    assert [t.state for t in trials].count(TrialState.FAIL) == 2
    assert len([t for t in trials if t.state.is_finished()]) == 2 + 3


def test_a_source_only_that_fails_for_good_is_said_and_nothing_is_answered_as_if_compared(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return [NonFiniteLossError("source", 1)] if "source-only" in key else []

    with monkeypatch.context() as patch:
        fail(patch, Never())
        choice = run(space, tmp_path)
    assert choice.answer == "none" and choice.trial is not None
    assert choice.reason.startswith("the model without adaptation could not be trained")
    said = [caveat for caveat in choice.caveats if "could not be trained: loss term" in caveat]
    assert [caveat.split(",")[0] for caveat in said] == [
        *("source-only", "confirm-source-only-0", "retrain-source-only-digits_to_digits-m"),
        "retrain-source-only-digits_to_digits-m-1",
    ]
    again = run(space, tmp_path)  # it is tried again at the next run
    assert again.answer in ("trial", "source-only") and not any("source-only" in c for c in again.caveats)


def test_a_source_only_that_fails_once_is_as_if_it_had_not(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(space.model_copy(update={"study": "whole"}), tmp_path)
    fail(monkeypatch, {"source-only": [ValueError("once")], "confirm-source-only-0": [ValueError("once")]})
    assert run(space, tmp_path).scores == expected.scores
