"""``iimt-search choose``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from iimt_search.cli.options import json_option
from iimt_search.cli.printing import print_json, print_table, shown

if TYPE_CHECKING:
    from iimt_search.auditing.models import ModelAudit
    from iimt_search.judging.judge import ModelChoice


def _print_choice(choice: "ModelChoice") -> None:
    click.echo(f"best: {choice.title}")
    click.echo(f"  {choice.objective} {choice.score:.4f}, {choice.reason}")
    known = choice.agreement
    if known["adapted"] is not None:
        without = known["source_only"]
        more = "" if without is None else f", those without by κ {without:.2f}"
        click.echo(f"  the better half of the models with adaptation agree by κ {known['adapted']:.2f}{more}")
    for caveat in choice.caveats:
        click.echo(f"  note: {caveat}")
    weights: dict[str, float] = {}
    for model in choice.models:
        weights[model.candidate] = weights.get(model.candidate, 0.0) + model.weight
    print_table(
        ["candidate", f">{choice.objective}", ">agreement\nκ", ">say in the\nensemble", "veto"],
        [
            [
                c.name + (" (baseline)" if c.name in choice.baselines else ""),
                f"{c.mean:.4f}",
                shown(c.agreement, ".2f"),
                f"{weights[c.name]:.0%}",
                c.veto,
            ]
            for c in choice.candidates
        ],
    )
    if choice.shares:
        print_table(
            ["class", ">source", ">target,\nestimated", ">models\ndiffer by"],
            [
                [name, *(f"{each[key]:.1%}" for key in ("source", "target", "uncertainty"))]
                for name, each in choice.shares.items()
            ],
            "shares of the classes",
        )
    print_table(
        ["validator", *(f">{name}" for name in choice.scores)],
        [
            [name, *(f"{scores[name]:.4f}" for scores in choice.scores.values())]
            for name in next(iter(choice.scores.values()))
        ],
        "label-free scores, mean over a candidate's files",
    )
    for name, lacks in choice.unscored.items():
        click.echo(f"not scored: {name}, which needs {lacks}")


def _print_audit(choice: "ModelChoice", audit: "ModelAudit") -> None:
    click.echo(f"target accuracy in percent of {audit.task.test_samples} samples, read after the choice")
    rows = [(f"{choice.candidate} (the choice)", audit.candidates[choice.candidate], "")]
    if audit.ensemble is not None:
        rows.append(("all together", audit.ensemble, ""))
    rows += [(name, value, "") for name, value in audit.candidates.items() if name != choice.candidate]
    rows += [
        (f"picked by {name}", v.target_accuracy, f"{v.spearman:.2f}")
        for name, v in audit.task.validators.items()
    ]
    print_table(
        ["what", ">accuracy", ">Spearman"], [[what, f"{value:.1f}", rank] for what, value, rank in rows]
    )


@click.command("choose")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="NAME",
    help="A candidate without adaptation; may be given again. By default source-only, where there is one.",
)
@click.option("--objective", default="consensus", show_default=True, help="The validator that decides.")
@click.option(
    "--validator",
    "validators",
    multiple=True,
    metavar="NAME",
    help="Score by this one too; may be given again. By default by all quick ones that can be computed.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page of it.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the target's probabilities, of the choice and of all models together, as .npz.",
)
@click.option(
    "--audit",
    "labels",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="LABELS",
    help="After the choice, read the target's labels from this .npy file and measure.",
)
@json_option
def command(
    models: tuple[Path, ...],
    baselines: tuple[str, ...],
    objective: str,
    validators: tuple[str, ...],
    html: Path | None,
    predictions: Path | None,
    labels: Path | None,
    as_json: bool,
) -> None:
    """Choose among models that others trained, by files of what they predict, without a target label.

    MODELS are .npz or .safetensors files, each a candidate, and folders of files, each a candidate that was
    trained several times; or one folder that holds them.
    """
    from iimt_search.judging.judge import choose, save_predictions
    from iimt_search.report.models import write_models_page

    choice = choose(models, baselines=baselines, objective=objective, validators=validators)
    if not as_json:
        _print_choice(choice)
    if html is not None:
        write_models_page(choice, html)
    if predictions is not None:
        save_predictions(choice, predictions)
    content = choice.to_json()
    if labels is not None:  # the choice is made, shown and written
        from iimt_search.auditing.models import audit_models

        audit = audit_models(choice, labels)
        content["audit"] = audit.to_json()
        if html is not None:
            write_models_page(choice, html, content["audit"])
        if not as_json:
            _print_audit(choice, audit)
    if as_json:
        print_json(content)
