"""``iimt-search best``."""

from typing import TYPE_CHECKING, Any

import click

from iimt_search import api
from iimt_search.cli.options import json_option, which_options
from iimt_search.cli.printing import Count, print_json, print_table
from iimt_search.errors import UsageError
from iimt_search.exporting.formats import FORMATS, SAFETENSORS
from iimt_search.records import Candidate, Choice
from iimt_search.settings import shown_value

if TYPE_CHECKING:
    from iimt_search.exporting.export_models import ExportedModel


def _choices_json(choices: list[Choice]) -> dict[str, Any]:
    """Return the choice as JSON values; of a ``per_task`` study its choices under ``answers``."""
    answers = [choice.to_json() for choice in choices]
    for answer in answers:
        del answer["schema"]
    return answers[0] if len(answers) == 1 else {"study": choices[0].study, "answers": answers}


def _rival(candidate: Candidate) -> str:
    agreed = "" if candidate.agreement is None else f" (κ {candidate.agreement:.2f})"
    return f"{candidate.name} {candidate.mean:.4f}{agreed}{', vetoed' if candidate.veto else ''}"


def _about_the_models(choice: Choice) -> list[str]:
    """Return what is known of all trained models together, a line each."""
    lines = [
        f"on {task} the trained models agree by κ {known['adapted']:.2f}, those without adaptation by "
        f"κ {known['source_only']:.2f}"
        for task, known in choice.agreement.items()
        if None not in known.values()
    ]
    if choice.taught:
        lines.append("its models were taught the labels that all trained models together give the target")
    return lines


def _print_choice(choice: Choice) -> None:
    if choice.answer == "none":
        click.echo(f"best: {choice.title}")
    elif choice.trial is None:
        click.echo("best: source-only, the model without adaptation")
    else:
        click.echo(f"best: trial {choice.trial}")
        for name, value in choice.params.items():
            click.echo(f"  {name:<14s} {shown_value(value)}")
    click.echo(f"  {choice.objective} {choice.score:.4f}, {choice.reason}")
    for candidate in choice.candidates:
        if candidate.name == choice.candidate and candidate.agreement is not None:
            click.echo(f"  its fresh seeds agree on the target by κ {candidate.agreement:.2f}")
    for text in _about_the_models(choice):
        click.echo(f"  {text}")
    rivals = [_rival(c) for c in choice.candidates if c.name != choice.candidate]
    click.echo(f"  against {', '.join(rivals)}" if rivals else "  without a rival")
    for caveat in choice.caveats:
        click.echo(f"  note: {caveat}")
    print_table(
        ["validator", *(">" + task.replace("->", "\n->") for task in choice.scores)],
        [
            [name, *(f"{scores[name]:.4f}" for scores in choice.scores.values())]
            for name in next(iter(choice.scores.values()))
        ],
        "label-free scores with fresh seeds",
        padding=(1, 1),
    )
    for task, measured in choice.few_shot.items():
        click.echo(
            f"few-shot accuracy of {task}: {measured['accuracy']:.1%} of {measured['samples']:.0f} labelled "
            f"target samples, 95 % interval {measured['low']:.1%} to {measured['high']:.1%}"
        )


def print_choices(choices: list[Choice], *, as_json: bool, next_commands: bool) -> None:
    """Print what a study chose, as text or JSON."""
    if as_json:
        print_json(_choices_json(choices))
        return
    for choice in choices:
        _print_choice(choice)
    if next_commands:
        study = choices[0].study
        click.echo(
            "next:\n"
            f"  iimt-search best --study {study} --export     the trained models (--single: one each)\n"
            f"  iimt-search report --study {study}            everything in one page, to look at\n"
            f"  iimt-search dashboard --study {study}         every trial and its learning curve\n"
            f"  iimt-search audit --study {study}             measured with the test labels, if there are any"
        )


def _names(ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    names = [name.strip() for text in value for name in text.split(",") if name.strip()]
    for name in names:
        if name not in (SAFETENSORS, *FORMATS):
            valid = ", ".join([SAFETENSORS, *FORMATS])
            raise click.BadParameter(f"there is no format {name!r}; valid: {valid}", ctx)
    return tuple(name for name in names if name != SAFETENSORS)


def _print_exported(exported: "dict[str, ExportedModel]") -> None:
    for task, model in exported.items():
        made_of = f", an ensemble of {model.members} models" if model.members > 1 else ""
        click.echo(f"exported {task} to {model.folder}/{made_of}")
        samples = "random and real samples" if model.real else "random samples"
        for name, difference in model.differences.items():
            click.echo(
                f"  {FORMATS[name].file}: its logits differ from model.safetensors' by at most "
                f"{difference:.1g}, on {samples}"
            )
    click.echo(f"use: iimt-search predict {next(iter(exported.values())).folder} INPUT…")


@click.command("best")
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
    "--format",
    "formats",
    multiple=True,
    callback=_names,
    metavar="FORMAT",
    help="With --export: torch-export or onnx too, checked for equal outputs; may be given again. "
    "safetensors is there in any case.",
)
@click.option(
    "--single",
    is_flag=True,
    help="With --export: one model a task, the best-scored, instead of the ensemble of its trainings.",
)
@which_options
@json_option
def command(export: str | None, formats: tuple[str, ...], single: bool, as_json: bool, **where: Any) -> None:
    """Show a study's choice: the configuration, its scores, and the trained models."""
    for option, given in (("--single", single), ("--format", formats)):
        if given and export is None:
            raise UsageError(f"{option} goes with --export")
    choices = api.best(**where)
    if export is None:
        print_choices(choices, as_json=as_json, next_commands=True)
        return
    where["study"] = choices[0].study  # the newest may be another one by then
    exported = api.export(
        export or f"{choices[0].study}-models", **where, formats=formats, single=single, progress=Count()
    )
    if as_json:
        folders = {task: str(model.folder) for task, model in exported.items()}
        differences = {task: dict(model.differences) for task, model in exported.items()}
        print_json({**_choices_json(choices), "exported": folders, "differences": differences})
        return
    print_choices(choices, as_json=False, next_commands=False)
    _print_exported(exported)
