"""Hands out what a study chose: models, in the formats asked for and checked, with their cards."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from iimt_search.errors import DataError, StudyError, UsageError
from iimt_search.exporting.card import CARD, MARK, Provenance, folder_card, model_card
from iimt_search.exporting.formats import check_formats, read_metadata
from iimt_search.files import atomic_write, write_text
from iimt_search.records import Choice
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.task_name import slug

if TYPE_CHECKING:
    from torch import Tensor


def check_target(target: Path) -> None:
    """Check that a folder may be written to as an exported model.

    Raises:
        UsageError: something else is there.
    """
    if target.exists() and not (target / "model.json").exists():
        raise UsageError(f"{target} exists and is no exported model; give `export` another folder")


def copy_models(
    choices: Iterable[Choice], models: Path, folder: Path, single: bool = False
) -> dict[str, Path]:
    """Copy every chosen task's model from ``models``, the study's, to a folder of its own within ``folder``.

    Where ``single`` is set, only the best-scored member of each ensemble.

    Returns:
        Task name → folder.

    Raises:
        UsageError: something that is not an exported model stands in the way.
        StudyError: a model is no longer in the study's folder.
    """
    pairs = [(task, models / choice.candidate / slug(task)) for choice in choices for task in choice.tasks]
    for task, source in pairs:
        if not (source / "model.json").exists():
            raise StudyError(f"the model of {task} is not in {source}; `iimt-search run` trains it again")
        check_target(folder / source.name)
    folder.mkdir(parents=True, exist_ok=True)
    for _, source in pairs:
        with atomic_write(folder / source.name) as beside:
            shutil.copytree(source, beside, copy_function=shutil.copyfile)
            beside.chmod(0o755)  # where the study may only be read, a copy would be so, too
            if single:
                from iimt_search.exporting.model_folder import add_members

                add_members(beside, ())
    return {task: folder / source.name for task, source in pairs}


_REAL = 64


@dataclass(frozen=True)
class ExportedModel:
    """One task's exported model.

    Attributes:
        folder: where it is.
        members: how many models make it.
        differences: format → the greatest difference of a logit from the safetensors model's.
        real: how many real samples they were compared on, beside random ones.
    """

    folder: Path
    members: int
    differences: Mapping[str, float] = field(default_factory=dict)
    real: int = 0


def _real_samples(spec: TaskSpec, metadata: Mapping[str, Any]) -> "Tensor | None":
    """Return some target samples of a task; None where its data is not at hand any more."""
    import torch

    from iimt_search.data.assemble import load_task
    from iimt_search.training.batches import evenly_spaced

    settings = TrainSettings.model_validate(metadata["hyperparameters"])
    try:
        task = load_task(spec, settings.image_size, settings.data_fraction)
    except (DataError, OSError):
        return None
    if list(task.sample_shape) != metadata["preprocessing"]["sample_shape"]:
        return None
    return torch.from_numpy(task.target.rows(evenly_spaced(len(task.target), _REAL)))


def write_card(folder: Path, provenance: Provenance | None) -> None:
    """Write the model card of the exported model in ``folder``, as :func:`model_card` makes it."""
    write_text(folder / CARD, model_card(read_metadata(folder), provenance))


def _finish(folder: Path, task: str, provenance: Provenance, formats: Sequence[str]) -> ExportedModel:
    """Write the formats and the card of one exported model."""
    differences: dict[str, float] = {}
    real = None
    if formats:
        from iimt_search.exporting.convert import write_formats

        spec = next(each for each in provenance.space.tasks if each.name == task)
        real = _real_samples(spec, read_metadata(folder))
        differences = write_formats(folder, formats, real)
    write_card(folder, provenance)
    count = 0 if real is None else len(real)
    return ExportedModel(folder, 1 + len(read_metadata(folder)["others"]), differences, count)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Give a folder within ``folder`` for what is not finished; neither outlives an error."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=".unfinished-", dir=folder, ignore_cleanup_errors=True) as inside:
            yield Path(inside)
    except BaseException:
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise


def _check_places(folder: Path, tasks: Sequence[str]) -> None:
    for task in tasks:
        check_target(folder / slug(task))
    card = folder / CARD
    if len(tasks) > 1 and card.exists() and MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{card} exists and is no model card of ours; give `export` another folder")


def export_models(
    provenances: Mapping[str, Provenance],
    models: Path,
    folder: Path,
    formats: Sequence[str] = (),
    single: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, ExportedModel]:
    """Write one exported model for each task of a study, each in a folder of its own within ``folder``.

    Nothing is written where anything fails.

    Args:
        provenances: task → how a study came to its model.
        models: the study's exported models.
        folder: made where absent.
        formats: names in :data:`iimt_search.exporting.formats.FORMATS`, beside safetensors.
        single: only the best-scored member of each ensemble.
        progress: takes what is done, and how many of how many.

    Returns:
        Task → what was written.

    Raises:
        UsageError: a format cannot be written here, or something that is not ours stands in the way.
        StudyError: a model is no longer in the study's folder.
        ModelFileError: a format does not compute the same as the safetensors model.
    """
    check_formats(formats)
    _check_places(folder, list(provenances))
    wanted = [name for name in dict.fromkeys(formats) if name != "safetensors"]
    choices = list({id(provenance.choice): provenance.choice for provenance in provenances.values()}.values())
    with _unfinished(folder) as inside:
        staged = copy_models(choices, models, inside, single)
        exported = {}
        for done, (task, path) in enumerate(staged.items(), 1):
            exported[task] = _finish(path, task, provenances[task], wanted)
            if progress is not None:
                progress("exported", done, len(staged))
        cards = [(read_metadata(path), provenances[task]) for task, path in staged.items()]
        for task, model in exported.items():
            target = folder / model.folder.name
            shutil.rmtree(target, ignore_errors=True)
            exported[task] = replace(model, folder=model.folder.rename(target))
        if len(cards) > 1:
            write_text(folder / CARD, folder_card(cards))
    return exported
