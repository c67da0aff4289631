"""``iimt-search score``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from iimt_search import api
from iimt_search.cli.options import json_option, narrow_table, print_json, show_count, which_options
from iimt_search.task_name import slug
from iimt_search.validators.registry import VALIDATORS

if TYPE_CHECKING:
    from iimt_search.study.scoring import ScoredCheckpoint


def _check_name(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if name not in VALIDATORS:
            raise click.BadParameter(f"there is no validator {name!r}; see `iimt-search validators`")
    return value


def _table(task: str, found: Mapping[str, "ScoredCheckpoint | None"]) -> Table:
    table = narrow_table(title=task)
    for title in ("validator", "best is", "prefers"):
        table.add_column(title, no_wrap=title != "prefers", overflow="fold")
    for title in ("step", "score"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, each in found.items():
        direction = "high" if VALIDATORS[name].higher_is_better else "low"
        if each is None:
            table.add_row(name, direction, "(what it needs was not kept)", "", "")
        else:
            job = each.kept.job.removesuffix(f"-{slug(task)}")
            table.add_row(name, direction, job, str(each.kept.step), f"{each.scores[name]:.4f}")
    return table


@click.command("score")
@click.option(
    "--validator",
    "validators",
    multiple=True,
    callback=_check_name,
    metavar="NAME",
    help="Score by this validator; may be given several times. By default by all.",
)
@click.option("--every-step", is_flag=True, help="Every evaluated checkpoint, not the last of each training.")
@click.option(
    "--export",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With one --validator: write the models of the checkpoint that it prefers to DIR.",
)
@which_options
@json_option
def command(as_json: bool, **options: Any) -> None:
    """Score the kept checkpoints of a study by any validator, without training."""
    found = api.score(**options, progress=show_count)
    if as_json:
        content: dict[str, Any] = {
            "study": found.study,
            "checkpoints": [checkpoint.to_json() for checkpoint in found.checkpoints],
            "preferred": {
                task: {name: best and best.to_json() for name, best in by_validator.items()}
                for task, by_validator in found.preferred.items()
            },
        }
        if found.exported:
            content["exported"] = {task: str(path) for task, path in found.exported.items()}
        print_json(content)
        return
    for task, by_validator in found.preferred.items():
        Console().print(_table(task, by_validator))
    for task, path in found.exported.items():
        click.echo(f"exported {task} to {path}/")
