"""How well the tool's own choice, and each validator alone, picks models: by sealed test labels.

``python -m benchmarks.validators`` trains 24 configurations with two seeds on each task, good ones and ones
that collapse, lets every validator pick, and runs the tool's own procedure on the same models: veto, the best
three of one seed by the default objective, the default configuration and source-only, all again with two
fresh seeds. What is trained is kept in a folder, and not trained again.

Every figure is of target test samples, in percent or points. A case is one task and one
of the two seeds. Its oracle is the same for everyone: the best of all models of the task, of both seeds and
the fresh ones, and the tool's own choice.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from scipy.stats import spearmanr

from benchmarks.pool import EMBEDDED, REAL, UNTUNED, Member, members, train_pool
from benchmarks.pool_choice import OTHER_WAYS, Chosen, choose, to_confirm
from benchmarks.scores import TRIED, Scores, add_pool_scores, add_tried, score_pool
from iimt_search.auditing.validators import (
    ValidatorAudit,
    audit_validator,
    pick_summary,
    validator_summary,
)
from iimt_search.files import strict_json
from iimt_search.validators.registry import VALIDATORS

GROUPS = {"embedded": EMBEDDED, "real": REAL, "untuned": UNTUNED}
Case = tuple[str, int]


def cases_of(pool: Iterable[Member]) -> dict[Case, list[Member]]:
    """Return (task, seed) → its models."""
    found: dict[Case, list[Member]] = {}
    for member in pool:
        found.setdefault((member.task, member.seed), []).append(member)
    return found


def _name(case: Case) -> str:
    return f"{case[0]} seed {case[1]}"


def _pick(chosen: Mapping[Case, Chosen], kind: str) -> dict[str, float]:
    return {_name(case): float(getattr(found, kind)) for case, found in chosen.items()}


def _reverse_stand_ins(cases: Mapping[Case, list[Member]], scores: Mapping[Member, Scores]) -> dict[str, Any]:
    """Return how well the cheap reverse validators rank models as the full one does, by task."""
    full = "reverse_validation"
    found: dict[str, Any] = {}
    for case, pool in cases.items():
        if all(full in scores[member] for member in pool):
            reference = [scores[member][full] for member in pool]
            for name in ("reverse_validation_short", "reverse_probe"):
                value = float(spearmanr([scores[m][name] for m in pool], reference)[0])
                found.setdefault(name, {})[_name(case)] = strict_json(value)
    return found


def summarise(
    cases: Mapping[Case, list[Member]],
    chosen: Mapping[Case, Chosen],
    other_ways: Mapping[str, Mapping[Case, Chosen]],
    scores: Mapping[Member, Scores],
) -> dict[str, Any]:
    """Return the table as JSON values."""
    best = {
        task: max(found["accuracy"] for member, found in scores.items() if member.task == task)
        for task in dict.fromkeys(task for task, _ in cases)
    }
    oracle = {_name(case): max(best[case[0]], found.accuracy) for case, found in chosen.items()}
    source_only = {
        _name(case): next(scores[m]["accuracy"] for m in pool if m.configuration == "source-only")
        for case, pool in cases.items()
    }
    validators: dict[str, Any] = {}
    for name in (*VALIDATORS, *TRIED):
        higher = name in TRIED or VALIDATORS[name].higher_is_better
        audits: dict[str, ValidatorAudit] = {}
        for case, pool in cases.items():
            values = [scores[member].get(name, float("nan")) for member in pool]
            accuracies = [scores[member]["accuracy"] for member in pool]
            if (audit := audit_validator(higher, values, accuracies, oracle[_name(case)])) is not None:
                audits[_name(case)] = audit
        if audits:
            validators[name] = {**validator_summary(audits, oracle, source_only), "cases": len(audits)}
    return {
        "choice": pick_summary(_pick(chosen, "accuracy"), oracle, source_only),
        "choice, one model": pick_summary(_pick(chosen, "single"), oracle, source_only),
        "other_ways": {
            way: pick_summary(_pick(found, "accuracy"), oracle, source_only)
            for way, found in other_ways.items()
        },
        "validators": validators,
        "reverse_stand_ins": _reverse_stand_ins(cases, scores),
        "cases": {
            _name(case): {
                "oracle": oracle[_name(case)],
                "source_only": source_only[_name(case)],
                "choice": found.accuracy,
                "single": found.single,
                "oracle_gap": oracle[_name(case)] - found.accuracy,
                "answer": found.decision.answer,
                "configuration": found.model.configuration,
                "agreement": found.decision.winner.agreement,
                "reason": found.decision.reason,
            }
            for case, found in chosen.items()
        },
    }


def _row(name: str, row: Mapping[str, Any]) -> str:
    def text(value: float | None, form: str) -> str:
        return "" if value is None else f"{value:{form}}"

    cells = [
        name,
        *(f"{row[key]:.1f}" for key in ("target_accuracy", "oracle_gap", "worst_oracle_gap", "worst_gain")),
        *(text(row.get(key), ".2f") for key in ("spearman", "weighted_spearman")),
        *(f"{100 * row[key]:.0f} %" for key in ("below_source_only_rate", "catastrophic_rate")),
    ]
    return "| " + " | ".join(cells) + " |"


def print_tables(summary: Mapping[str, Any]) -> None:
    """Print the result as Markdown."""
    click.echo(
        "| case | source-only | choice | one model | oracle | gap | answer |\n|---|---|---|---|---|---|---|"
    )
    for case, row in summary["cases"].items():
        figures = (row["source_only"], row["choice"], row["single"], row["oracle"], row["oracle_gap"])
        cells = " | ".join(f"{value:.1f}" for value in figures)
        click.echo(f"| {case} | {cells} | {row['answer']}: {row['configuration']} |")
    click.echo(
        "\n| picked by | accuracy | gap, mean | gap, worst | against source-only, worst | Spearman "
        "| weighted Spearman | below source-only | catastrophic |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name in ("choice", "choice, one model"):
        click.echo(_row(f"**our {name}**", summary[name]))
    for way, row in summary["other_ways"].items():
        click.echo(_row(f"our choice, {way}", row))
    for name, row in sorted(summary["validators"].items(), key=lambda item: item[1]["oracle_gap"]):
        few = f" ({row['cases']} cases)" if row["cases"] < len(summary["cases"]) else ""
        click.echo(_row(name + few, row))
    for name, row in summary["reverse_stand_ins"].items():
        known = [value for value in row.values() if value is not None]
        listed = ", ".join(f"{case} {value:.2f}" for case, value in row.items() if value is not None)
        click.echo(f"\n{name} ranks as reverse_validation: Spearman {fmean(known):.2f} ({listed})")


@click.command()
@click.option(
    "--tasks",
    "groups",
    multiple=True,
    type=click.Choice([*GROUPS, "all"]),
    default=("embedded", "real"),
    show_default=True,
    help="Groups of tasks; real and untuned need MNIST and photographs in $IIMT_DATA.",
)
@click.option("--count", default=24, show_default=True, help="Configurations of each task.")
@click.option("--seeds", default=2, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option(
    "--reverse", is_flag=True, help="Both reverse validations too, of seed 0: doubles the trainings."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("studies/validators-benchmark"),
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True)
def main(
    groups: tuple[str, ...], count: int, seeds: int, workers: int, reverse: bool, folder: Path, as_json: bool
) -> None:
    """Measure the tool's choice and every validator by the sealed test labels."""

    def line(text: str) -> None:
        click.echo(text, err=True)

    names = GROUPS if "all" in groups else groups
    pool = members(tuple(task for name in names for task in GROUPS[name]), count, seeds)
    train_pool(pool, folder, workers, line)
    if reverse:
        train_pool([m for m in pool if m.seed == 0], folder, workers, line, back=True)
    line("scoring")
    scores = score_pool(pool, folder, workers)
    cases = cases_of(pool)
    fresh = {case: to_confirm(mine, scores) for case, mine in cases.items()}
    every_fresh = list(dict.fromkeys(member for mine in fresh.values() for member in mine))
    train_pool(every_fresh, folder, workers, line)
    scores |= score_pool(every_fresh, folder, workers)
    chosen = {case: choose(mine, fresh[case], scores, folder) for case, mine in cases.items()}
    other_ways = {
        way: {case: choose(mine, fresh[case], scores, folder, way) for case, mine in cases.items()}
        for way in OTHER_WAYS
    }
    mine = {member: scores[member] for member in pool}
    add_pool_scores(mine, folder)
    add_tried(mine)
    summary = summarise(cases, chosen, other_ways, scores)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        print_tables(summary)


if __name__ == "__main__":
    main()
