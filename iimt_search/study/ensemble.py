"""The trained models of one configuration and task, which together make an ensemble."""

from iimt_search.models.network import Model
from iimt_search.study.choice import Choice
from iimt_search.study.keeping import KeptCheckpoint, kept_checkpoints, last_checkpoints
from iimt_search.study.storage import StudyFolder
from iimt_search.task_name import slug
from iimt_search.training.kept import load_kept_model


def _of_candidate(folder: StudyFolder, choice: Choice, task: str, ends: list[str]) -> list[KeptCheckpoint]:
    names = {start + end for start in ("", f"{slug(task)}-") for end in ends}
    return [each for each in last_checkpoints(kept_checkpoints(folder, [task])) if each.job in names]


def confirmed(folder: StudyFolder, choice: Choice, task: str) -> list[KeptCheckpoint]:
    """Return the last checkpoints of the choice's trainings with fresh seeds, of one task."""
    seeds = range(len(choice.candidates[0].scores))
    return _of_candidate(folder, choice, task, [f"confirm-{choice.candidate}-{index}" for index in seeds])


def other_members(folder: StudyFolder, choice: Choice, task: str, exported_seed: int) -> list[Model]:
    """Return the choice's models of a task, retrained and with fresh seeds, but for the exported one.

    Args:
        folder: the study's.
        choice: what was chosen.
        task: the task's name.
        exported_seed: the exported model's, in its ``model.json``.
    """
    retrained = _of_candidate(folder, choice, task, [f"retrain-{choice.candidate}-{slug(task)}"])
    found = [load_kept_model(each.path) for each in (*retrained, *confirmed(folder, choice, task))]
    return [each.model for each in found if each.seed != exported_seed]
