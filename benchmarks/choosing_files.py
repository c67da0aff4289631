"""How well ``iimt-search choose`` picks among few models: ``python -m benchmarks.choosing_files``.

Of each audited study in a folder, such as ``python -m benchmarks.choosing`` leaves, the trials' last kept
checkpoints are written as files, without what only this package knows. Some are drawn at random, those of
source-only are the baseline, and what is chosen is measured by the audit's accuracies, in percent of the
target's test samples.
"""

import random
import tempfile
from pathlib import Path
from statistics import fmean

import click
from safetensors.torch import save_file

from iimt_search.auditing.record import read_audit
from iimt_search.judging.files import ARRAYS
from iimt_search.judging.judge import choose
from iimt_search.space import Space
from iimt_search.study.folder import StudyFolder
from iimt_search.study.kept import kept_checkpoints, last_checkpoints
from iimt_search.study.open import open_study
from iimt_search.training.kept import load_kept_predictions

_WRITTEN = ("target_logits", "target_embeddings", "source_val_logits", "source_val_labels", "source_shares")
Accuracies = dict[Path, float]


def written(study: Path, folder: Path) -> tuple[Accuracies, Accuracies]:
    """Write a study's models as files; returns the accuracies of its trials' and of source-only's."""
    audit = read_audit(study)
    assert audit is not None
    with open_study(study.parent, study.name, None) as opened:
        (task, *_) = Space.model_validate(opened.space).tasks
    trials: Accuracies = {}
    baselines: Accuracies = {}
    for kept in last_checkpoints(kept_checkpoints(StudyFolder(study), [task.name])):
        if "retrain-" in kept.job or kept.job not in audit.accuracies[task.name]:
            continue
        if not (source_only := "source-only" in kept.job) and "confirm-" in kept.job:
            continue
        path = folder / ("source-only" if source_only else "") / f"{kept.job}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        predictions = load_kept_predictions(kept.path)
        held = {name: getattr(predictions, ARRAYS[name].field) for name in _WRITTEN}
        save_file({name: value for name, value in held.items() if value is not None}, path)
        (baselines if source_only else trials)[path] = audit.accuracies[task.name][kept.job]
    return trials, baselines


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("studies/choosing"), show_default=True
)
@click.option("--draws", default=12, show_default=True, help="Of each study and each number of models.")
@click.option("--models", "counts", default="3,5,8", show_default=True, help="So many with adaptation.")
def main(folder: Path, draws: int, counts: str) -> None:
    """Measure what is chosen among few models, drawn at random from audited studies."""
    rng, sizes = random.Random(0), [int(text) for text in counts.split(",")]
    rows: dict[int, list[tuple[float, ...]]] = {size: [] for size in sizes}
    studies = sorted(path.parent for path in folder.glob("*/audit.json"))
    for study in studies:
        with tempfile.TemporaryDirectory() as temporary:
            trials, baselines = written(study, Path(temporary))
            for size in sizes:
                for _ in range(draws if len(trials) >= size else 0):
                    drawn = rng.sample(sorted(trials), size)
                    found = choose([*drawn, Path(temporary, "source-only")], validators=["source_accuracy"])
                    accuracies = {path.stem: trials[path] for path in drawn}
                    without = fmean(baselines.values())
                    values = accuracies.values()
                    chosen = accuracies.get(found.candidate, without)
                    rows[size].append((without, fmean(values), chosen, max(*values, without)))
    click.echo("| models | cases | source-only | mean | chosen | best | worst gap | below source-only |")
    click.echo("|---|---|---|---|---|---|---|---|")
    for size, of_size in rows.items():
        if of_size:
            means = " | ".join(f"{fmean(column):.1f}" for column in zip(*of_size, strict=True))
            gap = max(best - chosen for *_, chosen, best in of_size)
            below = fmean(chosen < without for without, _, chosen, _ in of_size)
            click.echo(f"| {size} | {len(of_size)} | {means} | {gap:.1f} | {below:.0%} |")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.choosing_files")
