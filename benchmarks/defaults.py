"""What other defaults would do for series and vectors: ``python -m benchmarks.defaults``.

One training with the method's default configuration for each seed, of the tasks of ``benchmarks.choosing``,
beside the same with one thing changed; target accuracy in percent, with the target's labels.
"""

from pathlib import Path
from statistics import fmean

import click

from benchmarks.choosing import space_of, target_labels
from benchmarks.choosing_tasks import chosen, missing
from iimt_search.features.extract import load_training_task
from iimt_search.seeding import derive_seed
from iimt_search.space import Space
from iimt_search.study.search.sampling import settings_for
from iimt_search.training.task_training import TaskTraining

_BY_DOMAIN = "statistics: by_domain"
_MOTION = "augmentation: motion"


def accuracy(space: Space, seed: int, changed: str) -> float:
    """Train once and return the target accuracy in percent.

    Args:
        space: of one task.
        seed: of the training.
        changed: what is not the default; "" for nothing.
    """
    (spec,) = space.tasks
    if changed == _MOTION:
        source = tuple(domain.model_copy(update={"augmentation": "motion"}) for domain in spec.source)
        target = spec.target.model_copy(update={"augmentation": "motion"})
        spec = spec.model_copy(update={"source": source, "target": target})
    settings = settings_for(space, {"statistics": "by_domain"} if changed == _BY_DOMAIN else {})
    task = load_training_task(spec, settings)
    training = TaskTraining(task, settings, derive_seed(seed, spec.name), shares=())
    training.advance(settings.steps)
    predicted = training.predictions().target_logits.argmax(dim=-1)
    return 100 * float((predicted == target_labels(space)).double().mean())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("studies/choosing"), show_default=True
)
@click.option("--tasks", default="p,s,v", show_default=True, help="Beginnings of names, comma-separated.")
@click.option("--seeds", default=3, show_default=True)
def main(data: Path, folder: Path, tasks: str, seeds: int) -> None:
    """Compare defaults of series and vectors on the tasks of benchmarks.choosing."""
    click.echo(f"| task | default | {_BY_DOMAIN} | {_MOTION} |\n|---|---|---|---|")
    for case in chosen(tasks, "AB"):
        if case.kind == "digits" or missing(case, data):
            continue
        space = space_of(case, 0, folder / "domains", data, 1)
        columns = ["", _BY_DOMAIN, *([_MOTION] if case.kind == "sensors" else [])]
        found = [fmean(accuracy(space, seed, changed) for seed in range(1, seeds + 1)) for changed in columns]
        shown = [f"{value:.1f}" for value in found] + ["–"] * (3 - len(found))
        click.echo(f"| {case.name} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.defaults")
