"""``iimt-search best``."""

from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from iimt_search.cli.options import json_option, print_json, root_option, storage_option, study_option
from iimt_search.errors import UsageError
from iimt_search.study.choice import Candidate, Choice
from iimt_search.study.hand_out import hand_out
from iimt_search.study.open import open_study


def _content(choice: Choice) -> dict[str, Any]:
    content = choice.to_json()
    del content["schema"]
    return content


def choices_json(choices: list[Choice]) -> dict[str, Any]:
    """Return the choice as JSON values; of a ``per_task`` study its choices under ``answers``."""
    if len(choices) == 1:
        return _content(choices[0])
    return {"study": choices[0].study, "answers": [_content(choice) for choice in choices]}


def _table(choice: Choice) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="label-free scores with fresh seeds", title_justify="left")
    table.add_column("validator", no_wrap=True)
    for task in choice.scores:
        table.add_column(task.replace("->", "\n->"), justify="right", overflow="fold")
    for name in next(iter(choice.scores.values())):
        table.add_row(name, *(f"{scores[name]:.4f}" for scores in choice.scores.values()))
    return table


def _rival(candidate: Candidate) -> str:
    agreed = "" if candidate.agreement is None else f" (κ {candidate.agreement:.2f})"
    return f"{candidate.name} {candidate.mean:.4f}{agreed}{', vetoed' if candidate.veto else ''}"


def _print_choice(choice: Choice) -> None:
    if choice.answer == "none":
        click.echo(f"best: {choice.title}")
    elif choice.trial is None:
        click.echo("best: source-only, the model without adaptation")
    else:
        click.echo(f"best: trial {choice.trial}")
        for name, value in choice.params.items():
            click.echo(f"  {name:<14s} {value:.4g}" if isinstance(value, float) else f"  {name:<14s} {value}")
    click.echo(f"  {choice.objective} {choice.score:.4f}, {choice.reason}")
    mine = [c for c in choice.candidates if c.name == choice.candidate and c.agreement is not None]
    for candidate in mine:
        click.echo(f"  its fresh seeds agree on the target by κ {candidate.agreement:.2f}")
    rivals = [_rival(c) for c in choice.candidates if c.name != choice.candidate]
    click.echo(f"  against {', '.join(rivals)}" if rivals else "  without a rival")
    for flag in choice.flags:
        click.echo(f"  note: {flag}")
    Console().print(_table(choice))
    for task, found in choice.few_shot.items():
        click.echo(
            f"few-shot accuracy of {task}: {found['accuracy']:.1%} of {found['samples']:.0f} labelled target "
            f"samples, 95 % interval {found['low']:.1%} to {found['high']:.1%}"
        )


def print_choices(choices: list[Choice], *, as_json: bool, next_commands: bool) -> None:
    """Print what a study chose, as text or JSON."""
    if as_json:
        print_json(choices_json(choices))
        return
    for choice in choices:
        _print_choice(choice)
    if next_commands:
        study = choices[0].study
        click.echo("next:")
        click.echo(f"  iimt-search best --study {study} --export     the trained models (--single: one each)")
        click.echo(f"  iimt-search dashboard --study {study}         every trial and its learning curve")
        click.echo(
            f"  iimt-search audit --study {study}             measured with the test labels, if there are any"
        )


@click.command("best")
@study_option
@click.option(
    "--export",
    "export",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[DIR]",
    help="Write one model folder for each task to DIR (by default NAME-models).",
)
@click.option(
    "--single",
    is_flag=True,
    help="With --export: one model a task, the best-scored, instead of the ensemble of its trainings.",
)
@storage_option
@root_option
@json_option
def command(
    study: str | None, export: str | None, single: bool, storage: str | None, root: Path, as_json: bool
) -> None:
    """Show a study's choice: the configuration, its scores, and the trained models."""
    if single and export is None:
        raise UsageError("--single goes with --export")
    opened = open_study(root, study, storage)
    choices = opened.made_choices()
    if export is None:
        print_choices(choices, as_json=as_json, next_commands=not as_json)
        return
    folder = Path(export or f"{opened.folder.name}-models")
    written = hand_out(choices, opened.folder.models, folder, single)
    if as_json:
        print_json({**choices_json(choices), "exported": {task: str(path) for task, path in written.items()}})
        return
    print_choices(choices, as_json=False, next_commands=False)
    members = {task: len(jobs) for choice in choices for task, jobs in choice.members.items()}
    for task, path in written.items():
        count = 1 if single else members.get(task, 1)
        click.echo(f"exported {task} to {path}/" + (f", an ensemble of {count} models" if count > 1 else ""))
    click.echo(f"use: iimt-search predict {next(iter(written.values()))} IMAGE…")
