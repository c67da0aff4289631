"""The recorded learning curves that ``benchmarks.cluster`` replays.

Made by ``python -m benchmarks cluster --record 16``: a real search of the embedded digits.
"""

import json
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from iimt_search.errors import StudyInterruptedError
from iimt_search.records import Evaluation, Event, Job, Report
from iimt_search.space import KnownNames
from iimt_search.space.load import space_from_text
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.sampling import quiet_optuna
from iimt_search.study.storage.database import sqlite_url
from iimt_search.validators.registry import VALIDATORS

SPACE = """\
schema: 1
study: cluster
tasks: [digits->digits-m]
train: {steps: 100, image_size: 16, evaluations: 5}
"""
_FILE = Path(__file__).with_suffix(".json")
_DIGITS = 5


def read_curves() -> list[list[Evaluation]]:
    """Return the recorded curves: the evaluations of one trial each."""
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    return [[Evaluation(**evaluation) for evaluation in curve] for curve in content]


class _Recorder(InlineExecutor):
    """Keeps what trials report."""

    def __init__(self) -> None:
        super().__init__()
        self.curves: dict[str, list[Evaluation]] = {}
        self._trials: set[str] = set()

    def submit(self, job: Job) -> None:
        """Take the job as its base does; only trials' reports are kept."""
        if job.purpose == "trial":
            self._trials.add(job.key)
        super().submit(job)

    def wait(self, timeout: float) -> list[Event]:
        """Wait as its base does, and keep what it returns."""
        events = super().wait(timeout)
        for event in events:
            if isinstance(event, Report) and event.key in self._trials:
                self.curves.setdefault(event.key, []).append(event.evaluation)
        return events


class _UntilSearched(Silent):
    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def line(self, text: str) -> None:
        """Stop where the search has ended."""
        if text.startswith("confirm:"):
            self._stop.set()


def record_curves(trials: int) -> Path:
    """Run a search of so many trials and write their curves to the file that is read."""
    quiet_optuna()
    text = f"{SPACE}sampler: random\npruner: none\nbudget: {{trials: {trials}}}\n"
    space = space_from_text(text, KnownNames(("digits", "digits-m"), VALIDATORS))
    recorder, stop = _Recorder(), threading.Event()
    with TemporaryDirectory() as root:
        folder = StudyFolder(Path(root) / space.study)
        options = RunOptions(sqlite_url(folder.database))
        try:
            run_study(space, folder, options, lambda: recorder, _UntilSearched(stop), stop)
        except StudyInterruptedError:
            pass
    content = [
        [
            {
                "step": evaluation.step,
                "scores": {
                    task: {name: round(score, _DIGITS) for name, score in scores.items()}
                    for task, scores in evaluation.scores.items()
                },
            }
            for evaluation in curve
        ]
        for curve in recorder.curves.values()
    ]
    _FILE.write_text("[\n" + ",\n".join(json.dumps(curve) for curve in content) + "\n]\n", encoding="utf-8")
    return _FILE
