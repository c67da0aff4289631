"""``iimt-search validators``."""

from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from iimt_search.cli.options import json_option, print_json
from iimt_search.validators.registry import VALIDATORS, default_validators


def validators_json() -> dict[str, Any]:
    """Return what is known of every validator as JSON values."""
    default = default_validators()
    content = {}
    for name, validator in VALIDATORS.items():
        known = validator._asdict()
        del known["module"]
        content[name] = {**known, "default": name in default}
    return content


@click.command("validators")
@json_option
def command(as_json: bool) -> None:
    """List the label-free validators: direction, range, cost, needs, known failure, source."""
    if as_json:
        print_json(validators_json())
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("validator", no_wrap=True)
    for title in ("best", "range", "cost", "needs", "known failure", "source"):
        table.add_column(title, overflow="fold")
    for name, validator in VALIDATORS.items():
        failure = validator.failure + (f"; trained: {validator.trained}" if validator.trained else "")
        needs = f"made of {', '.join(validator.parts)}" if validator.parts else ", ".join(validator.needs)
        best = "high" if validator.higher_is_better else "low"
        table.add_row(name, best, validator.unit, validator.cost, needs, failure, validator.reference)
    Console().print(table)
    click.echo("cost: free, from predictions; probe, fits a small model; short training and training, at a")
    click.echo(
        "training's end only; pool, compares all candidates. Formulas and measurements: docs/validators.md"
    )
