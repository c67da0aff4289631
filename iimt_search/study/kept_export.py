"""Makes an exported model of a kept checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from iimt_search.data.assemble import load_task
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.keeping import KeptCheckpoint
from iimt_search.training.export import export_model
from iimt_search.training.kept import load_kept_model


def export_kept(kept: KeptCheckpoint, spec: TaskSpec, scores: Mapping[str, float], folder: Path) -> None:
    """Write the model of a kept checkpoint to ``folder``.

    Args:
        kept: the checkpoint.
        spec: its task.
        scores: validator → score, for the model card.
        folder: made where absent; an exported model in it is replaced.

    Raises:
        ModelFileError: the checkpoint is damaged.
    """
    found = load_kept_model(kept.path)
    export_model(
        folder,
        model=found.model,
        task=load_task(spec, found.settings.image_size, found.settings.share),
        settings=found.settings,
        seed=found.seed,
        step=kept.step,
        scores=scores,
    )
