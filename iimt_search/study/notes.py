"""Markdown notes that the Optuna dashboard shows beside a study and its trials."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import Trial
from optuna_dashboard import save_note

from iimt_search.plain_text import markdown
from iimt_search.records import Evaluation, Job, shown_cost
from iimt_search.settings import shown_value
from iimt_search.validators.registry import VALIDATORS


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return task → validator → score as a Markdown table, one row for each validator."""
    rows = [["validator", *map(markdown, scores)], ["---"] * (1 + len(scores))]
    for name in next(iter(scores.values())):
        rows.append([name, *(f"{values[name]:.4f}" for values in scores.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _study_link(study: optuna.Study) -> str:
    """Return a study's page in the dashboard, without host."""
    return f"/dashboard/studies/{study._study_id}"


def _with_links(text: str, study: optuna.Study) -> str:
    """Return a text whose trials are links to their pages."""
    page = f"{_study_link(study)}/trials?numbers="
    return re.sub(r"(?<![\w-])trial-(\d+)(?![\w-])", rf"[trial-\1]({page}\1)", text)


def note_trial(
    trial: Trial,
    job: Job,
    params: Mapping[str, Any],
    origin: str,
    evaluation: Evaluation | None,
    error: str,
    vetoed: str,
) -> None:
    """Note what a trial trained, how far it came, and every score of each task."""
    name = markdown(trial.study.study_name)
    lines = [f"**{markdown(job.key)}**, seed {job.seed}, of [{name}]({_study_link(trial.study)})"]
    lines.append("\n".join(f"- `{name}` = {markdown(shown_value(value))}" for name, value in params.items()))
    if error:
        lines.append(f"Failed: {markdown(error)}")
    if vetoed:
        lines.append(f"Vetoed, whatever its scores: {markdown(vetoed)}")
    if not error and evaluation is not None and evaluation.step < job.settings.steps:
        lines.append("Pruned: others were better at this step.")
    if evaluation is not None and evaluation.cost:
        lines.append(f"Training: {', '.join(shown_cost(*cost) for cost in evaluation.cost.items())}.")
    if origin:
        lines.append(f"Origin: {origin}.")
    if evaluation is not None:
        lines.append(f"Scores after {evaluation.step} of {job.settings.steps} steps:")
        lines.append(score_table(evaluation.scores))
    save_note(trial, "\n\n".join(lines))


def note_study(
    study: optuna.Study,
    tasks: Sequence[str],
    objective: str,
    source_only: Evaluation | None,
    choice: str,
) -> None:
    """Note what the study searches, its baseline and, once there is one, its choice."""
    validator = VALIDATORS[objective]
    better = "higher" if validator.higher_is_better else "lower"
    name = study.study_name.split(":")[0]
    lines = [
        f"# {markdown(study.study_name)}",
        "Hyperparameters of a domain-adaptation training, searched **without any target label**.",
        f"- Tasks: {', '.join(map(markdown, tasks))}",
        f"- Objective: `{objective}` averaged over the tasks, {validator.unit}, {better} is better. "
        f"Known failure: {validator.failure}.",
        *(["- Second objective: what the training costs, lower is better."] * (len(study.directions) - 1)),
        f"- {_with_links('trial-0', study)} is the method's default configuration. A learning curve's step "
        "is a training step.",
        f"- Continue: `iimt-search run` with the same space file. Result: `iimt-search best --study {name}`; "
        f"everything in one page: `iimt-search report --study {name}`.",
    ]
    if source_only is not None:
        lines += ["## Source-only, the model without adaptation", score_table(source_only.scores)]
    if choice:
        lines += ["## Choice", _with_links(choice, study)]
    save_note(study, "\n\n".join(lines))
