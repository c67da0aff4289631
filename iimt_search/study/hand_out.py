"""Copies a choice's trained models to where a user wants them."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from iimt_search.errors import StudyError, UsageError
from iimt_search.study.choice import Choice
from iimt_search.task_name import slug


def _copy(source: Path, target: Path, single: bool) -> None:
    beside = target.with_name(target.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside)
    if single:
        from iimt_search.training.export import drop_members

        drop_members(beside)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def check_target(target: Path) -> None:
    """Check that a folder may be written to as an exported model.

    Raises:
        UsageError: something else is there.
    """
    if target.exists() and not (target / "model.json").exists():
        raise UsageError(f"{target} exists and is no exported model; give --export another folder")


def hand_out(choices: Iterable[Choice], models: Path, folder: Path, single: bool = False) -> dict[str, Path]:
    """Copy every task's model from ``models``, the study's, to a folder of its own within ``folder``.

    Args:
        choices: what was chosen.
        models: the study's exported models.
        folder: made where absent.
        single: only the best-scored member of each ensemble.

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
        _copy(source, folder / source.name, single)
    return {task: folder / source.name for task, source in pairs}
