"""Hands out what a study chose: models, in the formats asked for and checked, with their cards."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iimt_search.errors import DataError, UsageError
from iimt_search.files import write_beside
from iimt_search.report.audit_record import read_audit
from iimt_search.report.model_card import CARD, MARK, Story, folder_card, model_card
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.choice import Choice
from iimt_search.study.hand_out import check_target, hand_out
from iimt_search.study.open import OpenStudy
from iimt_search.task_name import slug
from iimt_search.training.formats import check_formats

if TYPE_CHECKING:
    from torch import Tensor

_REAL = 64


@dataclass(frozen=True)
class Delivered:
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
    from iimt_search.training.samples import evenly_spaced

    settings = TrainSettings.model_validate(metadata["hyperparameters"])
    try:
        task = load_task(spec, settings.image_size, settings.share)
    except (DataError, OSError):
        return None
    if list(task.sample_shape) != metadata["preprocessing"]["sample_shape"]:
        return None
    return torch.from_numpy(task.target.rows(evenly_spaced(len(task.target), _REAL)))


def _read(folder: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return metadata


def write_card(folder: Path, story: Story | None) -> None:
    """Write the model card of an exported model.

    Args:
        folder: the exported model.
        story: the study that chose it; None for a checkpoint that no study chose.
    """
    write_beside(folder / CARD, model_card(_read(folder), story))


def _finish(folder: Path, task: str, story: Story, formats: Sequence[str]) -> Delivered:
    """Write the formats and the card of one exported model."""
    differences: dict[str, float] = {}
    real = None
    if formats:
        from iimt_search.training.write_formats import write_formats

        spec = next(each for each in story.space.tasks if each.name == task)
        real = _real_samples(spec, _read(folder))
        differences = write_formats(folder, formats, real)
    write_card(folder, story)
    count = 0 if real is None else len(real)
    return Delivered(folder, 1 + len(_read(folder)["others"]), differences, count)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Give a folder within ``folder`` for what is not finished; neither outlives an error."""
    made = not folder.exists()
    inside = folder / f".unfinished-{os.getpid()}"
    shutil.rmtree(inside, ignore_errors=True)  # of a killed process that had this number
    inside.mkdir(parents=True)
    try:
        yield inside
    except BaseException:
        shutil.rmtree(inside, ignore_errors=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()
        raise
    shutil.rmtree(inside, ignore_errors=True)


def _check_places(folder: Path, tasks: Sequence[str]) -> None:
    for task in tasks:
        check_target(folder / slug(task))
    card = folder / CARD
    if len(tasks) > 1 and card.exists() and MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{card} exists and is no model card of ours; give --export another folder")


def _stories(opened: OpenStudy, choices: Sequence[Choice]) -> dict[str, Story]:
    """Return task → how the study came to its model."""
    space, audit = Space.model_validate(opened.space), read_audit(opened.folder.path)
    stories: dict[str, Story] = {}
    for choice in choices:
        audited = audit.content["tasks"] if audit is not None and choice.digest in audit.digests else None
        stories |= {task: Story(choice, space, audited) for task in choice.tasks}
    return stories


def deliver(
    opened: OpenStudy,
    folder: Path,
    formats: Sequence[str] = (),
    single: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Delivered]:
    """Write one exported model for each task of a study, each in a folder of its own within ``folder``.

    Nothing is written where anything fails.

    Args:
        opened: a study that has come to its choice.
        folder: made where absent.
        formats: names in :data:`iimt_search.training.formats.FORMATS`, beside safetensors.
        single: only the best-scored member of each ensemble.
        progress: told what is done, how many of how many.

    Returns:
        Task → what was written.

    Raises:
        UsageError: a format cannot be written here, or something that is not ours stands in the way.
        StudyError: there is no choice, or its models are not on this machine.
        ModelFileError: a format does not compute the same as the safetensors model.
    """
    check_formats(formats)
    choices = opened.made_choices()
    opened.need_folder("its models are")
    stories = _stories(opened, choices)
    _check_places(folder, list(stories))
    wanted = [name for name in dict.fromkeys(formats) if name != "safetensors"]
    with _unfinished(folder) as inside:
        staged = hand_out(choices, opened.folder.models, inside, single)
        found = {}
        for done, (task, path) in enumerate(staged.items(), 1):
            found[task] = _finish(path, task, stories[task], wanted)
            if progress is not None:
                progress("exported", done, len(staged))
        models = [(_read(path), stories[task]) for task, path in staged.items()]
        delivered = {}
        for task, each in found.items():
            target = folder / each.folder.name
            shutil.rmtree(target, ignore_errors=True)
            each.folder.rename(target)
            delivered[task] = Delivered(target, each.members, each.differences, each.real)
        if len(models) > 1:
            write_beside(folder / CARD, folder_card(models))
    return delivered
