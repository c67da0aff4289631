"""``iimt-search audit``."""

from pathlib import Path
from typing import Any

import click

from iimt_search import api
from iimt_search.cli.options import data_root_option, device_option, json_option, which_options
from iimt_search.cli.printing import Count, print_json, print_table, shown

_TASKS = ["task", ">source\nonly", ">de-\nfault", ">choice", ">gain", ">one\nmodel", ">oracle", ">gap"]
_VALIDATORS = ["validator", ">picked", ">gap,\nmean", ">gap,\nworst", ">Spear-\nman", ">weight-\ned"]


def _accuracies(row: dict[str, Any], gain: float) -> list[str]:
    """Return the cells of a task, or of the mean over tasks; accuracies in percent."""
    choice = row["choice"]
    first = row["source_only"], row.get("default"), choice["target_accuracy"]
    last = row.get("single"), row["oracle"], choice["oracle_gap"], row.get("ceiling")
    return [*(shown(v, ".1f") for v in first), shown(gain, "+.1f"), *(shown(v, ".1f") for v in last)]


def _print_tables(content: dict[str, Any]) -> None:
    tasks, summary = content["tasks"], content["summary"]
    print_table(
        [*_TASKS, ">ceil-\ning", ">n"],
        [
            [
                task.replace("->", "\n->"),
                *_accuracies(row, row["choice"]["target_accuracy"] - row["source_only"]),
                f"{row['test_samples']}{'' if row['unseen'] else '*'}",
            ]
            for task, row in tasks.items()
        ],
        mean=["mean", *_accuracies(summary, summary["choice"]["mean_gain"]), ""],
    )
    validators = sorted(summary["validators"].items(), key=lambda item: item[1]["oracle_gap"])
    print_table(
        [*_VALIDATORS, ">below\nsource\nonly", ">catas-\ntro-\nphic"],
        [
            [
                name,
                *(shown(row[key], ".1f") for key in ("target_accuracy", "oracle_gap", "worst_oracle_gap")),
                *(shown(row.get(key), ".2f") for key in ("spearman", "weighted_spearman")),
                *(f"{100 * row[key]:.0f} %" for key in ("below_source_only_rate", "catastrophic_rate")),
            ]
            for name, row in [("our choice", summary["choice"]), *validators]
        ],
        "what each validator alone would have picked of the same models",
    )


@click.command("audit")
@click.option(
    "--train/--no-train",
    default=True,
    show_default=True,
    help="Train the default configuration and a model on the target's labels, to compare with.",
)
@which_options
@device_option
@data_root_option
@json_option
def command(train: bool, device: str, data_root: Path | None, as_json: bool, **where: Any) -> None:
    """After the choice, measure it and every validator with the sealed target test labels.

    Nothing else reads them, and nothing here changes the choice. The study is marked as audited: a choice
    that changes afterwards says so.
    """
    from iimt_search.auditing.measure import audit_json

    where["study"] = where["study"] or api.only_study(where["studies_dir"], where["storage"])
    choices = api.best(**where)
    where["study"] = choices[0].study  # the newest may be another one by then
    audits = api.audit(**where, train=train, device=device, data_root=data_root, progress=Count())
    content = audit_json(choices[0].study, audits)
    if as_json:
        print_json(content)
        return
    click.echo(f"target test accuracy in percent; choice: {', '.join(c.title for c in choices)}")
    click.echo(
        "choice and source-only: ensembles; one model: the choice's best-scored; "
        "oracle: the study's best model"
    )
    _print_tables(content)
    if not all(audit.unseen for audit in audits.values()):
        click.echo("* no test part: measured on the target samples that training saw without labels")
    click.echo(f"picture: {where['studies_dir'] / choices[0].study / 'audit.html'}")
