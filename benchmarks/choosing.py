"""How good the tool's answer is, on tasks of four kinds: ``python -m benchmarks.choosing``.

Each case is a whole study of the product, defaults but for 12 trials, on one task with one of two seeds; then
its audit. Studies are kept: a case that is there is not run again, and ``--rejudge`` computes from
the kept predictions what today's rules say of the same models, without training.

Every figure is of target samples, in percent or points. The best single model is the best of the models that
the search and the confirmation have trained, source-only's among them: what an oracle with all target labels
would have picked. The gap is what it is better by than our answer.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

import iimt_search
from benchmarks.choosing_tasks import CASES, Case, chosen, missing, write_domains
from iimt_search.files import write_text
from iimt_search.pooling.labels import Pool
from iimt_search.space import Space
from iimt_search.study.folder import StudyFolder
from iimt_search.study.kept import kept_checkpoints, last_checkpoints
from iimt_search.study.open import open_study
from iimt_search.study.search.reference import pool_of, pooled_model
from iimt_search.study.search.trial_record import TrialRecord, read_trials
from iimt_search.validators.consensus import expected_agreement

_RETRAINED, _SOURCE_ONLY = "retrain-", "source-only"


@dataclass(frozen=True)
class Row:
    """What a case comes to.

    Attributes:
        case: name and seed.
        kind: of its data.
        shifted: whether the target's classes have other shares than the source's.
        half: ``A`` or ``B``.
        source_only: the first model without adaptation.
        answer: of what is handed out.
        best: the best single model.
        mean: of the models with adaptation.
        spearman: of the objective with accuracy, over the last kept checkpoints of all trials, pruned
            ones, too, and of the confirmation.
        spearman_together: so, of the agreement with the labels that all models give together at the end,
            which is what the answer is taught; the objective knows the first trials' alone.
        decided: ``trial``, ``source-only`` or ``none``.
    """

    case: str
    kind: str
    shifted: bool
    half: str
    source_only: float
    answer: float
    best: float
    mean: float
    spearman: float
    spearman_together: float
    decided: str

    @property
    def gap(self) -> float:
        """How much better the best single model is."""
        return self.best - self.answer

    @property
    def below(self) -> float:
        """How much better source-only is."""
        return self.source_only - self.answer


def space_of(case: Case, seed: int, domains: Path, data: Path, trials: int) -> Space:
    """Return the space of a case: the product's defaults."""
    source, target = write_domains(case, data, domains)
    extra = {"augmentation": "digits"} if case.kind == "digits" else {}
    task = {
        "name": case.name,
        "source": {"arrays": str(source.resolve()), **extra},
        "target": {"arrays": str(target.resolve()), **extra},
    }
    content = {"schema": 1, "study": f"{case.name}-{seed}", "tasks": [task], "seed": seed}
    content |= {"budget": {"trials": trials}, "train": {"image_size": 16 if case.kind == "digits" else 0}}
    return Space.model_validate(content)


def _rank(scores: dict[str, float], accuracies: dict[str, float]) -> float:
    names = [name for name in scores if name in accuracies]
    return float(spearmanr([scores[n] for n in names], [accuracies[n] for n in names]).statistic)


def _row(
    case: Case,
    seed: int,
    accuracies: dict[str, float],
    scores: dict[str, float],
    together: dict[str, float],
    **found: Any,
) -> Row:
    single = {job: value for job, value in accuracies.items() if not job.startswith(_RETRAINED)}
    adapted = [value for job, value in single.items() if _SOURCE_ONLY not in job]
    return Row(
        case=f"{case.name} seed {seed}",
        kind=case.kind,
        shifted=bool(case.cut),
        half=case.half,
        source_only=accuracies[_SOURCE_ONLY],
        best=max(single.values()),
        mean=fmean(adapted),
        spearman=_rank(scores, single),
        spearman_together=_rank(together, single),
        **found,
    )


def _trials(space: Space, studies: Path, *outcomes: str) -> list[TrialRecord]:
    """Return the trials of a case's study that ended so and that no veto meets, in order."""
    trials = read_trials(open_study(studies, space.study).studies[0])
    return [trial for trial in trials if trial.outcome in outcomes and not trial.veto]


def _accuracies(case: Case, space: Space, studies: Path) -> tuple[dict[str, float], float]:
    """Return job → accuracy of its last model, and that of what is handed out; measured once."""
    record = studies / space.study / "accuracies.json"
    if not record.exists():
        audit = iimt_search.audit(space.study, train=False, studies_dir=studies)[case.name]
        write_text(record, json.dumps([audit.accuracies, audit.choice]))
    accuracies, answer = json.loads(record.read_text())
    return accuracies, answer


def _kept(case: Case, space: Space, studies: Path) -> dict[str, Path]:
    """Return job → its last kept checkpoint."""
    found = kept_checkpoints(StudyFolder(studies / space.study), [case.name])
    return {each.job: each.path for each in last_checkpoints(found)}


def _source_only(kept: dict[str, Path]) -> dict[str, Path]:
    """Return job → checkpoint of the models without adaptation that are no retraining."""
    names = (_SOURCE_ONLY, f"confirm-{_SOURCE_ONLY}")
    return {job: path for job, path in kept.items() if job.startswith(names)}


def _together(space: Space, studies: Path, kept: dict[str, Path]) -> Pool:
    """Return the pool of all models of a case's study."""
    trials = [trial.name for trial in _trials(space, studies, "complete", "pruned") if trial.name in kept]
    without = _source_only(kept)
    fresh = [job for job in kept if job.startswith("confirm-") and job not in without]
    pool = pool_of([kept[job] for job in (*trials, *fresh)], without.values())
    if pool is None:
        raise RuntimeError(f"{space.study}: none of its models can take part")
    return pool


def _predicted(kept: dict[str, Path]) -> dict[str, Tensor]:
    """Return job → what its last model predicts of the target, int64 (N_t,)."""
    views = {job: pooled_model(path) for job, path in kept.items()}
    return {job: view.logits.argmax(dim=-1) for job, view in views.items() if view is not None}


def _agreement(predicted: dict[str, Tensor], labels: Tensor) -> dict[str, float]:
    """Return job → how far predictions agree with labels of the target."""
    return {job: expected_agreement(classes, labels) for job, classes in predicted.items()}


def judge(case: Case, seed: int, space: Space, studies: Path, workers: int | None) -> Row:
    """Run a case's study, where it has no answer yet, and audit it."""
    (choice,) = iimt_search.run(space, studies_dir=studies, workers=workers)
    accuracies, answer = _accuracies(case, space, studies)
    scored = iimt_search.score(space.study, validators=[space.objective], studies_dir=studies).checkpoints
    scores = {one.kept.job: one.scores[space.objective] for one in scored}
    kept = _kept(case, space, studies)
    together = _agreement(_predicted(kept), _together(space, studies, kept).labels())
    return _row(case, seed, accuracies, scores, together, answer=answer, decided=choice.answer)


def judge_again(case: Case, seed: int, space: Space, studies: Path) -> Row:
    """Apply today's rules to the models of a case's study, without training.

    The answer is then what the models say together; a taught model keeps its accuracy within a point.
    """
    accuracies, _ = _accuracies(case, space, studies)
    kept = _kept(case, space, studies)
    labels, predicted = _together(space, studies, kept).labels(), _predicted(kept)
    first_trials = _trials(space, studies, "complete")[: space.reference.trials]
    first = pool_of([kept[trial.name] for trial in first_trials], _source_only(kept).values())
    if first is None:
        raise RuntimeError(f"{space.study}: none of its first trials can take part")
    answer = 100 * float((labels.argmax(dim=-1) == target_labels(space)).double().mean())
    scores, together = (_agreement(predicted, each) for each in (first.labels(), labels))
    return _row(case, seed, accuracies, scores, together, answer=answer, decided="trial")


def target_labels(space: Space) -> Tensor:
    """Return the target's labels in the order of the kept predictions: the benchmark's to read, after all."""
    (task,) = space.tasks
    names = [np.load(spec.arrays)["y"] for spec in (task.source[0], task.target) if spec.arrays]
    return torch.from_numpy(np.searchsorted(np.unique(names[0]), names[1]))


def _means(rows: list[Row]) -> dict[str, float]:
    return {
        "cases": len(rows),
        "source-only": fmean(row.source_only for row in rows),
        "answer": fmean(row.answer for row in rows),
        "best single": fmean(row.best for row in rows),
        "gap": fmean(row.gap for row in rows),
        "worst gap": max(row.gap for row in rows),
        "below source-only, worst": max(row.below for row in rows),
        "Spearman": fmean(row.spearman for row in rows),
        "of all labels": fmean(row.spearman_together for row in rows),
    }


def summary(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Return group of cases → means: all, each half, each kind, those with other class shares."""
    groups = {"all": rows}
    groups |= {f"half {half}": [row for row in rows if row.half == half] for half in "AB"}
    groups |= {
        kind: [row for row in rows if row.kind == kind] for kind in dict.fromkeys(r.kind for r in rows)
    }
    groups["other class shares"] = [row for row in rows if row.shifted]
    return {name: _means(group) for name, group in groups.items() if group}


def _print(rows: list[Row]) -> None:
    columns = ("case", "kind", "half", "source-only", "answer", "best single", "gap", "mean of adapted")
    click.echo(f"| {' | '.join(columns)} | Spearman | of all labels | decided |")
    click.echo("|---" * (len(columns) + 3) + "|")
    for row in rows:
        kind = f"{row.kind}, other shares" if row.shifted else row.kind
        values = (row.source_only, row.answer, row.best, row.gap, row.mean)
        told = " | ".join(f"{value:.1f}" for value in values)
        ranks = f"{row.spearman:.2f} | {row.spearman_together:.2f}"
        click.echo(f"| {row.case} | {kind} | {row.half} | {told} | {ranks} | {row.decided} |")
    groups = summary(rows)
    click.echo("\n| group | " + " | ".join(next(iter(groups.values()))) + " |")
    click.echo("|---" * (1 + len(next(iter(groups.values())))) + "|")
    for name, means in groups.items():
        places = {"cases": 0, "Spearman": 2, "of all labels": 2}
        figures = [f"{value:.{places.get(column, 1)}f}" for column, value in means.items()]
        click.echo(f"| {name} | {' | '.join(figures)} |")


def _is_there(case: Case, data: Path) -> bool:
    if why := missing(case, data):
        click.echo(f"{case.name} is left out: {why}", err=True)
    return not why


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with pacs/, usc-had/ and office-caltech/; what is not there is left out.",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("studies/choosing"), show_default=True
)
@click.option("--tasks", default="d,p,s,v", show_default=True, help="Beginnings of names, comma-separated.")
@click.option("--halves", default="AB", show_default=True, help="A, on which rules were made, B, or both.")
@click.option("--seeds", default=2, show_default=True)
@click.option("--trials", default=12, show_default=True)
@click.option("--workers", type=int)
@click.option("--rejudge", is_flag=True, help="Today's rules on the kept models; trains nothing.")
@click.option("--json", "as_json", is_flag=True)
def main(
    data: Path,
    folder: Path,
    tasks: str,
    halves: str,
    seeds: int,
    trials: int,
    workers: int | None,
    rejudge: bool,
    as_json: bool,
) -> None:
    """Measure the tool's answer against the best single model, with target labels, on tasks of four kinds."""
    rows = []
    cases = [case for case in chosen(tasks, halves) if _is_there(case, data)]
    for seed in range(seeds):
        for case in cases:
            space = space_of(case, seed, folder / "domains", data, trials)
            if not rejudge:
                rows.append(judge(case, seed, space, folder, workers))
            elif (folder / space.study).is_dir():
                rows.append(judge_again(case, seed, space, folder))
            else:
                continue
            click.echo(f"{rows[-1].case}: gap {rows[-1].gap:.1f}, Spearman {rows[-1].spearman:.2f}", err=True)
    rows.sort(key=lambda row: (list(CASES).index(row.case.split()[0]), row.case))
    if not rows:
        raise SystemExit("nothing to judge")
    if as_json:
        click.echo(json.dumps({"cases": [asdict(row) for row in rows], "summary": summary(rows)}, indent=2))
    else:
        _print(rows)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.choosing")
