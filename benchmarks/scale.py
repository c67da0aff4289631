"""``status`` and ``best`` on a study of many trials, against one of ten; and the memory that they take."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from benchmarks.timing import interleaved
from iimt_search.records import Candidate, Choice
from iimt_search.space import KnownNames, Space
from iimt_search.space.load import space_from_text
from iimt_search.study.folder import StudyFolder
from iimt_search.study.search.sampling import distributions, quiet_optuna
from iimt_search.study.selection.choice import write_choice
from iimt_search.study.storage.database import open_storage, sqlite_url
from iimt_search.validators.registry import VALIDATORS, default_validators

_SPACE = "schema: 1\nstudy: scale\ntasks: [digits->digits-m]\n"
_BATCH = 500


def _trial(space: Space, number: int) -> optuna.trial.FrozenTrial:
    found = distributions(space)
    params = {
        name: dist.low if isinstance(dist, (FloatDistribution, IntDistribution)) else None
        for name, dist in found.items()
    }
    scores = {name: number / 1e5 for name in default_validators()}
    attributes = {**scores, "scores": {"digits->digits-m": scores}}
    return create_trial(
        state=TrialState.COMPLETE,
        value=number / 1e5,
        params=params,
        distributions=found,
        user_attrs=attributes,
        intermediate_values={step: number / 1e5 for step in (40, 80, 120, 160, 200)},
    )


def make_study(root: Path, trials: int) -> None:
    """Write a finished study of so many trials to ``root``."""
    space = space_from_text(_SPACE, KnownNames(("digits", "digits-m"), VALIDATORS))
    folder = StudyFolder(root / "scale")
    folder.path.mkdir(parents=True)
    url = sqlite_url(folder.database)
    storage: RDBStorage = open_storage(url)
    study = optuna.create_study(study_name="scale", storage=storage, direction="maximize")
    study.set_user_attr("space", space.canonical())
    for start in range(0, trials, _BATCH):
        study.add_trials([_trial(space, number) for number in range(start, min(trials, start + _BATCH))])
    scores = {"digits->digits-m": dict.fromkeys(default_validators(), 0.5)}
    choice = Choice(
        study="scale",
        tasks=("digits->digits-m",),
        answer="trial",
        trial=trials - 1,
        params=study.trials[-1].params,
        objective="composite",
        score=0.5,
        scores=scores,
        candidates=(Candidate(f"trial-{trials - 1}", (0.5, 0.5)),),
        reason="made by a benchmark",
    )
    write_choice(study, choice)
    folder.describe(url, space.canonical())


def _run(root: Path, verb: str) -> None:
    command = [sys.executable, "-m", "iimt_search", verb, "--studies-dir", str(root)]
    subprocess.run(command, check=True, capture_output=True)


def measure_scale(counts: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Return the medians in seconds of each verb for each number of trials."""
    quiet_optuna()
    with TemporaryDirectory() as folder:
        for count in counts:
            make_study(Path(folder) / str(count), count)
        work = {
            f"{verb}, {count} trials": lambda verb=verb, count=count: _run(Path(folder) / str(count), verb)
            for verb in ("status", "best")
            for count in counts
        }
        return {name: {"seconds": value} for name, value in interleaved(work, rounds).items()}
