"""``iimt-search audit``."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from iimt_search import api
from iimt_search.cli.options import (
    data_root_option,
    device_option,
    json_option,
    narrow_table,
    print_json,
    show_count,
    which_options,
)


def _text(value: float | None, form: str = ".1f") -> str:
    return "–" if value is None else f"{value:{form}}"


def _task_table(content: dict[str, Any]) -> Table:
    table = narrow_table()
    table.add_column("task", no_wrap=True)
    for title in (
        "source\nonly",
        "de-\nfault",
        "choice",
        "gain",
        "one\nmodel",
        "oracle",
        "gap",
        "ceil-\ning",
        "n",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for task, row in content["tasks"].items():
        choice = row["choice"]["target_accuracy"]
        cells = [row["source_only"], row["default"], choice]
        table.add_row(
            task.replace("->", "\n->"),
            *map(_text, cells),
            _text(choice - row["source_only"], "+.1f"),
            *map(_text, (row["single"], row["oracle"], row["choice"]["oracle_gap"], row["ceiling"])),
            f"{row['test_samples']}{'' if row['unseen'] else '*'}",
        )
    summary = content["summary"]
    choice = summary["choice"]
    table.add_section()
    table.add_row(
        "mean",
        *map(_text, (summary["source_only"], summary.get("default"), choice["target_accuracy"])),
        _text(choice["mean_gain"], "+.1f"),
        *map(_text, (summary.get("single"), summary["oracle"], choice["oracle_gap"], summary.get("ceiling"))),
        "",
    )
    return table


def _validator_table(content: dict[str, Any]) -> Table:
    table = narrow_table(title="what each validator alone would have picked of the same models")
    table.add_column("validator", no_wrap=True)
    titles = (
        "picked",
        "gap,\nmean",
        "gap,\nworst",
        "Spear-\nman",
        "weight-\ned",
        "below\nsource\nonly",
        "catas-\ntro-\nphic",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    found = content["summary"]["validators"]
    rows = sorted(found.items(), key=lambda item: item[1]["oracle_gap"])
    for name, row in [("our choice", content["summary"]["choice"]), *rows]:
        table.add_row(
            name,
            *(_text(row[key]) for key in ("target_accuracy", "oracle_gap", "worst_oracle_gap")),
            *(_text(row.get(key), ".2f") for key in ("spearman", "weighted_spearman")),
            *(f"{100 * row[key]:.0f} %" for key in ("below_source_only_rate", "catastrophic_rate")),
        )
    return table


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

    choices = api.best(**where)
    where["study"] = choices[0].study  # the newest may be another one by then
    audits = api.audit(**where, train=train, device=device, data_root=data_root, progress=show_count)
    content = audit_json(choices[0].study, audits)
    if as_json:
        print_json(content)
        return
    click.echo(f"target test accuracy in percent; choice: {', '.join(c.title for c in choices)}")
    click.echo(
        "choice and source-only: ensembles; one model: the choice's best-scored; "
        "oracle: the study's best model"
    )
    console = Console()
    console.print(_task_table(content))
    console.print(_validator_table(content))
    if not all(audit.unseen for audit in audits.values()):
        click.echo("* no test part: measured on the target samples that training saw without labels")
    click.echo(f"picture: {where['studies_dir'] / choices[0].study / 'audit.html'}")
