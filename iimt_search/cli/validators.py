"""``iimt-search validators``."""

from typing import Any

import click
from rich.console import Console

from iimt_search.cli.options import json_option
from iimt_search.cli.printing import print_json
from iimt_search.validators.registry import VALIDATORS, default_validators

_COSTS = """
cost: free, from predictions; probe, fits a small model or compares all pairs; short training and training, at
a training's end only; pool, compares all candidates, after the search. "trained": what of the method's own
loss trains the score. Formulas and measurements: docs/validators.md"""


def validators_json() -> dict[str, Any]:
    """Return what is known of every validator as JSON values."""
    default = default_validators()
    content = {name: {**known._asdict(), "default": name in default} for name, known in VALIDATORS.items()}
    for known in content.values():
        del known["module"]
    return content


@click.command("validators")
@json_option
def command(as_json: bool) -> None:
    """List the label-free validators: direction, range, cost, needs, known failure, source."""
    if as_json:
        print_json(validators_json())
        return
    console = Console()
    for name, validator in VALIDATORS.items():
        best = "high" if validator.higher_is_better else "low"
        console.print(f"[bold]{name}[/]  {validator.cost}; {best} is best, ", end="", highlight=False)
        click.echo(f"{validator.unit}; {validator.reference}")
        needs = f"made of {', '.join(validator.parts)}" if validator.parts else ", ".join(validator.needs)
        for what, text in (("needs", needs), ("fails", validator.failure), ("trained", validator.trained)):
            if text:
                click.echo(f"    {what}: {text}")
    click.echo(_COSTS)
