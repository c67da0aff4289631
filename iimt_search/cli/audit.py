"""``iimt-search audit``."""

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from iimt_search.cli.options import (
    data_root_option,
    device_option,
    json_option,
    print_json,
    root_option,
    storage_option,
    study_option,
)


def _cells(source_only: float, default: float | None, choice: float, ceiling: float | None) -> list[str]:
    def text(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    return [text(source_only), text(default), text(choice), f"{choice - source_only:+.1f}", text(ceiling)]


@click.command("audit")
@study_option
@click.option(
    "--train/--no-train",
    default=True,
    show_default=True,
    help="Train the default configuration and a model on the target's labels, to compare with.",
)
@device_option
@data_root_option
@storage_option
@root_option
@json_option
def command(
    study: str | None,
    train: bool,
    device: str,
    data_root: Path | None,
    storage: str | None,
    root: Path,
    as_json: bool,
) -> None:
    """After the choice, measure it with the sealed target test labels.

    Nothing else reads them, and nothing here changes the choice.
    """
    from iimt_search.report.audit import audit_choice, audit_json
    from iimt_search.space import Space
    from iimt_search.study.open import open_study

    opened = open_study(root, study, storage)
    choices = opened.made_choices()
    space = Space.model_validate(opened.space)
    audits = {}
    for choice in choices:
        audits.update(audit_choice(choice, space, opened.folder.models, train, device))
    content = audit_json(opened.folder.name, audits)
    if as_json:
        print_json(content)
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    for title in ("source\nonly", "default", "choice", "gain", "labelled\nceiling", "n"):
        table.add_column(title, justify="right", no_wrap=True)
    for task, audit in audits.items():
        samples = f"{audit.test_samples}{'' if audit.unseen else '*'}"
        table.add_row(task, *_cells(audit.source_only, audit.default, audit.choice, audit.ceiling), samples)
    table.add_section()
    summary = content["summary"]
    means = (summary["source_only"], summary.get("default"), summary["choice"], summary.get("ceiling"))
    table.add_row("mean", *_cells(*means), "")
    click.echo(f"target test accuracy in percent, choice: {', '.join(c.candidate for c in choices)}")
    Console().print(table)
    if not all(audit.unseen for audit in audits.values()):
        click.echo("* no test part: measured on the target samples that training saw without labels")
