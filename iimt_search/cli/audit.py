"""``iimt-search audit``."""

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from iimt_search.cli.options import json_option, print_json, root_option, storage_option, study_option


@click.command("audit")
@study_option
@click.option("--ceiling/--no-ceiling", default=True, show_default=True, help="Train on target labels, too.")
@storage_option
@root_option
@json_option
def command(study: str | None, ceiling: bool, storage: str | None, root: Path, as_json: bool) -> None:
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
        audits.update(audit_choice(choice, space, opened.folder.models, ceiling))
    content = audit_json(opened.folder.name, audits)
    if as_json:
        print_json(content)
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    for title in ("source-only", "choice", "gain", "labelled ceiling", "samples"):
        table.add_column(title, justify="right")
    for task, audit in audits.items():
        gain = audit.choice - audit.source_only
        top = "" if audit.ceiling is None else f"{audit.ceiling:.1f}"
        row = (f"{audit.source_only:.1f}", f"{audit.choice:.1f}", f"{gain:+.1f}", top)
        table.add_row(task, *row, f"{audit.test_samples}{'' if audit.unseen else '*'}")
    summary = content["summary"]
    top = f"{summary['ceiling']:.1f}" if "ceiling" in summary else ""
    table.add_section()
    row = (f"{summary['source_only']:.1f}", f"{summary['choice']:.1f}", f"{summary['mean_gain']:+.1f}", top)
    table.add_row("mean", *row, "")
    click.echo(f"target test accuracy in percent, choice: {', '.join(c.candidate for c in choices)}")
    Console().print(table)
    if not all(audit.unseen for audit in audits.values()):
        click.echo("* no test part: measured on the target samples that training saw without labels")
