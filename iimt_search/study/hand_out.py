"""Copies a choice's trained models to where a user wants them."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from iimt_search.errors import StudyError, UsageError
from iimt_search.study.choice import Choice
from iimt_search.study.storage import StudyFolder
from iimt_search.task_name import slug


def _copy(source: Path, target: Path, finish: Callable[[Path], None]) -> None:
    beside = target.with_name(target.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside)
    finish(beside)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def _add_members(folder: StudyFolder, choice: Choice, task: str) -> Callable[[Path], None]:
    def add(exported: Path) -> None:
        from iimt_search.study.ensemble import other_members
        from iimt_search.training.export import add_members

        seed = json.loads((exported / "model.json").read_text(encoding="utf-8"))["seed"]
        others = other_members(folder, choice, task, seed)
        if not others:
            raise StudyError(f"no other training of {choice.candidate} on {task} is kept for an ensemble")
        add_members(exported, others)

    return add


def hand_out(
    choices: Iterable[Choice], study: StudyFolder, folder: Path, ensemble: bool = False
) -> dict[str, Path]:
    """Copy every task's model from the study's folder to one of its own within ``folder``.

    Args:
        choices: what was chosen.
        study: the study's folder.
        folder: made where absent.
        ensemble: add the models of the same configuration that were trained with fresh seeds.

    Returns:
        Task name → folder.

    Raises:
        UsageError: something that is not an exported model stands in the way.
        StudyError: a model is no longer in the study's folder.
    """
    chosen = [(choice, task) for choice in choices for task in choice.tasks]
    for choice, task in chosen:
        source, target = study.models / choice.candidate / slug(task), folder / slug(task)
        if not (source / "model.json").exists():
            raise StudyError(f"the model of {task} is not in {source}; `iimt-search run` trains it again")
        if target.exists() and not (target / "model.json").exists():
            raise UsageError(f"{target} exists and is no exported model; give --export another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for choice, task in chosen:
        finish = _add_members(study, choice, task) if ensemble else lambda _: None
        _copy(study.models / choice.candidate / slug(task), folder / slug(task), finish)
    return {task: folder / slug(task) for _, task in chosen}
