"""Opens studies for the verbs that read them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from iimt_search.errors import StudyError
from iimt_search.study.choice import Choice, read_choice
from iimt_search.study.storage import (
    StudyFolder,
    count_trials,
    newest_study,
    open_storage,
    optuna_study_names,
)


@dataclass(frozen=True)
class OpenStudy:
    """A study opened for reading.

    Attributes:
        folder: its folder.
        studies: its Optuna studies: one, or one for each task.
        storage: where they lie.
    """

    folder: StudyFolder
    studies: list[optuna.Study]
    storage: RDBStorage

    @property
    def space(self) -> dict[str, Any]:
        """The space file's content as it was last run."""
        space: dict[str, Any] = self.studies[0].user_attrs["space"]
        return space

    def count_trials(self, study: optuna.Study) -> dict[TrialState, int]:
        """Count a study's trials by state, without reading them."""
        return count_trials(self.storage, study.study_name)

    def best_trial(self, study: optuna.Study) -> FrozenTrial | None:
        """Read a study's best complete trial, and no other; None where none is complete."""
        try:
            return self.storage.get_best_trial(self.storage.get_study_id_from_name(study.study_name))
        except ValueError:
            return None

    def choices(self) -> list[Choice]:
        """Return the choices made so far."""
        return [choice for study in self.studies if (choice := read_choice(study)) is not None]

    def made_choices(self) -> list[Choice]:
        """Return the choices of all of its Optuna studies.

        Raises:
            StudyError: one has come to none yet.
        """
        choices = self.choices()
        if len(choices) < len(self.studies):
            raise StudyError(
                f"study {self.folder.name!r} has not come to a choice yet; continue it with the same "
                f"`iimt-search run --space FILE`, or look at `iimt-search status`"
            )
        return choices


def open_study(root: Path, name: str | None, storage_url: str | None = None) -> OpenStudy:
    """Open a study by name, or the newest one under ``root``.

    Raises:
        StudyError: there is no such study.
    """
    folder = StudyFolder(root / name) if name else newest_study(root)
    if name and not folder.description.exists():
        there = sorted(path.parent.name for path in root.glob("*/study.json"))
        known = f"; there are: {', '.join(there)}" if there else ""
        raise StudyError(f"there is no study {name!r} in {root}/{known}")
    storage = open_storage(folder.choose_storage(storage_url))
    names = optuna_study_names(storage, folder.name)
    if not names:
        raise StudyError(f"the storage of study {folder.name!r} holds no such study")
    studies = [optuna.load_study(study_name=each, storage=storage) for each in names]
    return OpenStudy(folder, studies, storage)
