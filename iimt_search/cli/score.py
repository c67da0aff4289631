"""``iimt-search score``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iimt_search import api
from iimt_search.cli.options import json_option, which_options
from iimt_search.cli.printing import Count, print_json, print_table
from iimt_search.task_name import slug
from iimt_search.validators.registry import VALIDATORS

if TYPE_CHECKING:
    from iimt_search.study.scoring import ScoredCheckpoint


def _check_name(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if name not in VALIDATORS:
            raise click.BadParameter(f"there is no validator {name!r}; see `iimt-search validators`")
    return value


def _rows(task: str, preferred: Mapping[str, "ScoredCheckpoint | None"]) -> Iterator[tuple[str, ...]]:
    for name, best in preferred.items():
        direction = "high" if VALIDATORS[name].higher_is_better else "low"
        if best is None:
            yield name, direction, "(what it needs was not kept)", "", ""
        else:
            job = best.kept.job.removesuffix(f"-{slug(task)}")
            yield name, direction, job, str(best.kept.step), f"{best.scores[name]:.4f}"


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
    scores = api.score(**options, progress=Count())
    if as_json:
        exported = {task: str(path) for task, path in scores.exported.items()}
        preferred = {
            task: {name: best and best.to_json() for name, best in by_validator.items()}
            for task, by_validator in scores.preferred.items()
        }
        checkpoints = [checkpoint.to_json() for checkpoint in scores.checkpoints]
        content = {"study": scores.study, "checkpoints": checkpoints, "preferred": preferred}
        print_json({**content, "exported": exported} if exported else content)
        return
    for task, by_validator in scores.preferred.items():
        print_table(["validator", "best is", "prefers", ">step", ">score"], _rows(task, by_validator), task)
    for task, path in scores.exported.items():
        click.echo(f"exported {task} to {path}/")
