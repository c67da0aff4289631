"""``iimt-search score``."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from iimt_search.cli.options import (
    json_option,
    narrow_table,
    print_json,
    root_option,
    show_count,
    storage_option,
    study_option,
)
from iimt_search.errors import StudyError, UsageError
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
@study_option
@click.option(
    "--validator",
    "names",
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
@storage_option
@root_option
@json_option
def command(
    study: str | None,
    names: tuple[str, ...],
    every_step: bool,
    export: Path | None,
    storage: str | None,
    root: Path,
    as_json: bool,
) -> None:
    """Score the kept checkpoints of a study by any validator, without training."""
    if export is not None and len(names) != 1:
        raise UsageError("--export needs exactly one --validator: whose preferred checkpoint to write")
    from iimt_search.exporting.export_models import check_target, write_card
    from iimt_search.exporting.model_folder import export_kept
    from iimt_search.space import Space
    from iimt_search.study.kept import kept_checkpoints, last_checkpoints
    from iimt_search.study.open import open_study
    from iimt_search.study.scoring import preferred, score_kept

    opened = open_study(root, study, storage)
    opened.need_folder("its kept checkpoints are")
    tasks = {task.name: task for task in Space.model_validate(opened.space).tasks}
    kept = kept_checkpoints(opened.folder, tasks)
    if not kept:
        raise StudyError(f"study {opened.folder.name!r} has no kept checkpoints in {opened.folder.kept}/")
    wanted = names or tuple(VALIDATORS)
    scored = score_kept(kept if every_step else last_checkpoints(kept), wanted, partial(show_count, "scored"))
    best = {(task, name): preferred(scored, name, task) for task in tasks for name in wanted}
    written: dict[str, Path] = {}
    for (task, name), found in best.items() if export is not None else ():
        if found is None:
            raise StudyError(f"{name} prefers nothing for {task}: what it needs was not kept")
        written[task] = Path(export or "") / tasks[task].slug
        check_target(written[task])
        export_kept(found.kept, tasks[task], found.scores, written[task])
        write_card(written[task], None)
    if as_json:
        preferences = {
            task: {name: None if (found := best[task, name]) is None else found.to_json() for name in wanted}
            for task in tasks
        }
        content = {
            "study": opened.folder.name,
            "checkpoints": [each.to_json() for each in scored],
            "preferred": preferences,
        }
        if written:
            content["exported"] = {task: str(path) for task, path in written.items()}
        print_json(content)
        return
    for task in tasks:
        Console().print(_table(task, {name: best[task, name] for name in wanted}))
    for task, path in written.items():
        click.echo(f"exported {task} to {path}/")
