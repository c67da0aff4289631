"""Studies made by hand, as the report reads them."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from iimt_search.auditing.record import AuditRecord
from iimt_search.cli.main import cli
from iimt_search.records import Candidate, Choice, Scores
from iimt_search.report.record import StudyRecord
from iimt_search.space import Space
from iimt_search.study.search.trial_record import TrialRecord
from iimt_search.validators.registry import default_validators

MakeStudy = Callable[..., StudyRecord]


def _scores(rng: np.random.Generator, tasks: list[str], quality: float) -> Scores:
    def one() -> dict[str, float]:
        noise = rng.normal(0, 0.1, len(default_validators()))
        return {name: quality + n for name, n in zip(default_validators(), noise, strict=True)}

    return {task: one() for task in tasks}


def _trial(rng: np.random.Generator, number: int, tasks: list[str], steps: int) -> TrialRecord:
    params = {
        "lambda_max": 1.0 if number == 0 else float(10 ** rng.uniform(-2, 2)),
        "alpha": 1.0 if number == 0 else float(10 ** rng.uniform(-1, 0.3)),
        "temperature": 0.5 if number == 0 else float(rng.uniform(0.1, 1.0)),
        "k": 2 if number == 0 else int(rng.integers(1, 5)),
    }
    quality = 0.8 - 0.1 * abs(math.log10(params["lambda_max"])) - 0.05 * params["temperature"]
    scores = _scores(rng, tasks, quality)
    value = float(np.mean([each["composite"] for each in scores.values()]))
    state = "pruned" if number % 5 == 3 else "failed" if number % 17 == 11 else "complete"
    points = {"complete": 5, "pruned": 2, "failed": 1}[state]
    return TrialRecord(
        number=number,
        state=state,
        params=params,
        value=value if state == "complete" else None,
        curve={steps * i // 5: value * (0.4 + 0.12 * i) for i in range(1, points + 1)},
        scores=scores if state != "failed" else {},
        origin="default" if number == 0 else "",
        veto=f"{tasks[0]}: 60 % of the classes are left" if number % 9 == 4 and state == "complete" else "",
        error="loss term 'inter' was not finite at step 3" if state == "failed" else "",
    )


def _choice(study: str, best: TrialRecord, tasks: list[str], fresh: dict[str, tuple[Scores, ...]]) -> Choice:
    def mean(scores: Scores) -> float:
        return float(np.mean([each["composite"] for each in scores.values()]))

    candidates = [
        Candidate(name, tuple(mean(scores) for scores in each), agreement=0.8) for name, each in fresh.items()
    ]
    candidates.sort(key=lambda candidate: -candidate.mean)
    return Choice(
        study=study,
        tasks=tuple(tasks),
        answer="trial",
        trial=best.number,
        params=dict(best.params),
        objective="composite",
        score=fresh[best.name][0][tasks[0]]["composite"],
        scores={task: dict(fresh[best.name][0][task]) for task in tasks},
        candidates=tuple(candidates),
        reason="best mean composite of 3 candidates, with fresh seeds",
        caveats=(
            "k = 4 is at the upper bound of its range (4): what is best may lie beyond; widen the range",
        ),
        vetoed={"trial-4": "60 % of the classes are left"},
    )


def _audit(
    rng: np.random.Generator, tasks: list[str], trials: tuple[TrialRecord, ...], digest: str
) -> AuditRecord:
    def row() -> dict[str, Any]:
        picks = {
            name: {"target_accuracy": 80.0, "oracle_gap": float(rng.uniform(0, 30)), "spearman": 0.5}
            for name in default_validators()
        }
        values = {"source_only": 61.0, "default": 77.0, "single": 84.0, "oracle": 91.0, "ceiling": 98.0}
        choice = {"target_accuracy": 88.0, "oracle_gap": 3.0}
        return {**values, "choice": choice, "test_samples": 450, "unseen": True, "validators": picks}

    done = [trial for trial in trials if trial.value is not None]
    accuracies = {t.name: 100 * max(0.1, (t.value or 0.0) + float(rng.normal(0, 0.04))) for t in done}
    confusion = (np.eye(10, dtype=int) * 40 + rng.integers(0, 3, (10, 10))).tolist()
    return AuditRecord(
        digests=(digest,),
        content={"tasks": {task: row() for task in tasks}},
        accuracies=dict.fromkeys(tasks, accuracies),
        confusion=dict.fromkeys(tasks, confusion),
    )


def make_study(
    trials: int = 30,
    tasks: tuple[str, ...] = ("digits->digits-m", "syn-digits->digits"),
    chosen: bool = True,
    audited: bool = False,
    study: str = "digits",
    seed: int = 0,
) -> StudyRecord:
    """Return a study whose objective depends on lambda_max most, and on temperature a little."""
    rng = np.random.default_rng(seed)
    names = list(tasks)
    space = Space.model_validate(
        {
            "schema": 1,
            "study": study,
            "tasks": names,
            "objective": "composite",
            "budget": {"trials": max(trials, 1)},
        }
    )
    found = tuple(_trial(rng, number, names, 200) for number in range(trials))
    baseline = _scores(rng, names, 0.55) if trials else None
    record = StudyRecord(
        name=study,
        space=space,
        tasks=space.tasks,
        trials=found,
        baseline=baseline,
        data=dict.fromkeys(names, "f" * 64),
    )
    if not chosen or not record.ranked:
        return record
    wanted = {"source-only": 0.55, record.ranked[0].name: 0.8, "trial-0": 0.74}
    fresh = {name: tuple(_scores(rng, names, quality) for _ in range(2)) for name, quality in wanted.items()}
    choice = _choice(study, record.ranked[0], names, fresh)
    audit = _audit(rng, names, found, choice.digest) if audited else None
    return replace(record, choice=choice, fresh=fresh, audit=audit)


@pytest.fixture
def study() -> MakeStudy:
    """Makes studies by hand."""
    return make_study


@pytest.fixture(scope="session")
def tiny_studies(tmp_path_factory: pytest.TempPathFactory, tiny_space_text: str) -> Path:
    """The studies folder of the tiny study, run to its choice once; tests do not change it."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "tiny.yaml").write_text(tiny_space_text)
    options = ["--workers", "0", "--device", "cpu", "--studies-dir", str(folder / "s")]
    result = CliRunner().invoke(cli, ["run", "--space", str(folder / "tiny.yaml"), *options])
    assert result.exit_code == 0, result.output
    return folder / "s"
