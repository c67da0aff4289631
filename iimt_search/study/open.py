"""Opens studies for the verbs that read them."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from iimt_search.errors import StudyError
from iimt_search.files import writable
from iimt_search.records import Choice
from iimt_search.study.folder import StudyFolder, newest_study
from iimt_search.study.search.trial_record import TrialRecord, read_trial
from iimt_search.study.selection.choice import read_choice
from iimt_search.study.storage.database import (
    LEFT_OUT,
    all_study_names,
    best_trial_id,
    close_storage,
    closed_after_errors,
    count_trials,
    database_errors,
    hide_password,
    open_storage,
    optuna_study_names,
    total_of_trials,
)
from iimt_search.study.storage.lock import Holder, database_holder


@dataclass(frozen=True)
class OpenStudy:
    """A study opened for reading; as a context manager it closes its storage at the end.

    Attributes:
        folder: its folder; on a machine that only watches, where it would be.
        studies: its Optuna studies: one, or one for each task of the space as it was last run.
        storage: where they lie.
    """

    folder: StudyFolder
    studies: list[optuna.Study]
    storage: RDBStorage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        close_storage(self.storage)

    @property
    def read_only(self) -> bool:
        """Whether its folder is here and cannot be written."""
        return self.folder.path.exists() and not writable(self.folder.path)

    @property
    def place(self) -> str:
        """Where it lies, for people: its folder, else its storage."""
        if self.folder.description.exists():
            return f"{self.folder.path}/"
        return self.storage.engine.url.render_as_string()

    def need_folder(self, what: str) -> None:
        """Check that the study's folder is on this machine.

        Raises:
            StudyError: it is not; begins with ``what`` is wanted of it, as "its models are".
        """
        if not self.folder.description.exists():
            raise StudyError(
                f"{what} in the folder of study {self.folder.name!r}, which is not {self.folder.path}/: "
                f"give `studies_dir`, or use the machine that runs it"
            )

    def driver(self) -> Holder | None:
        """Return the driver that runs the study now, on whatever machine; None where none does."""
        return self.folder.driver() or database_holder(self.storage.engine, self.folder.name)

    @property
    def space(self) -> dict[str, Any]:
        """The space file's content as it was last run."""
        space: dict[str, Any] = self.studies[0].user_attrs["space"]
        return space

    def count_trials(self, study: optuna.Study) -> dict[TrialState, int]:
        """Count a study's trials by state, without reading them."""
        return count_trials(self.storage, study.study_name)

    def best_trial(self, study: optuna.Study) -> TrialRecord | None:
        """Read a study's best complete trial, and no other; None where none is complete."""
        found = best_trial_id(self.storage, study.study_name)
        return None if found is None else read_trial(study, self.storage.get_trial(found))

    def seconds(self, study: optuna.Study) -> float | None:
        """Return the seconds of all of a study's trials together; None where none was measured."""
        return total_of_trials(self.storage, study.study_name, "seconds")

    def _here(self, choice: Choice) -> Choice:
        """Return a choice whose models are where the study's folder is now."""
        if not choice.models or not self.folder.description.exists():
            return choice
        return replace(choice, models=str(self.folder.models / choice.candidate))

    def made_choices(self) -> list[Choice]:
        """Return the choices of all of its Optuna studies.

        Raises:
            StudyError: one has come to none yet.
        """
        choices = [self._here(choice) for study in self.studies if (choice := read_choice(study)) is not None]
        if len(choices) < len(self.studies):
            raise StudyError(
                f"study {self.folder.name!r} has not come to a choice yet; continue it with the same "
                f"`iimt-search run --space FILE`, or look at `iimt-search status`"
            )
        return choices


def _load(folder: StudyFolder, storage: RDBStorage) -> OpenStudy:
    names = optuna_study_names(storage, folder.name)
    if not names:
        raise StudyError(f"the storage of study {folder.name!r} holds no such study")
    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    begun = [study for study in studies if "space" in (attrs := study.user_attrs) and not attrs.get(LEFT_OUT)]
    return OpenStudy(folder, begun or studies, storage)


def _open_stored(root: Path, name: str | None, url: str) -> OpenStudy:
    """Open a study of which this machine has no folder."""
    storage = open_storage(url, to_read=True)
    with closed_after_errors(storage), database_errors(url):
        stored = list(dict.fromkeys(stored.split(":")[0] for stored in all_study_names(storage)))
        if name is None and len(stored) == 1:
            name = stored[0]
        if name not in stored:
            asked = "give `study=NAME`" if name is None else f"there is no study {name!r}"
            raise StudyError(f"{asked}: {hide_password(url)} holds {', '.join(stored) or 'no study'}")
        opened = _load(StudyFolder(root / name), storage)
        if any("space" not in study.user_attrs for study in opened.studies):
            raise StudyError(f"{name!r} in {hide_password(url)} is no study of iimt-search")
    return opened


def _known_folder(root: Path, name: str | None, url: str | None) -> StudyFolder | None:
    """Return the folder of a study on this machine; None where only the storage can know it."""
    there = sorted(path.parent.name for path in root.glob("*/study.json"))
    if name is None:
        if url is not None and not there:
            return None
        newest = newest_study(root)
        return newest if url is None or newest.storage_url() == hide_password(url) else None
    folder = StudyFolder(root / name)
    if folder.description.exists():
        return folder
    if url is not None:
        return None
    known = f"; there are: {', '.join(there)}" if there else ""
    raise StudyError(f"there is no study {name!r} in {root}/{known}")


def open_study(studies_dir: str | Path, study: str | None, storage: str | None = None) -> OpenStudy:
    """Open a study by name, or the newest one in ``studies_dir``.

    A study that runs on another machine is opened by its storage's URL alone; without a name where the
    storage holds one study only.

    Raises:
        StudyError: there is no such study.
    """
    folder = _known_folder(Path(studies_dir), study, storage)
    if folder is None:
        return _open_stored(Path(studies_dir), study, storage or "")
    url = folder.choose_storage(storage)
    opened = open_storage(url, to_read=True)
    with closed_after_errors(opened), database_errors(url):
        return _load(folder, opened)


_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


def _part(opened: OpenStudy, study: optuna.Study) -> dict[str, Any]:
    known = opened.count_trials(study)
    best, choice = opened.best_trial(study), read_choice(study)
    return {
        "study": study.study_name,
        "objective": study.user_attrs["space"]["objective"],
        "trials": {state.name.lower(): known.get(state, 0) for state in _STATES},
        "budget": study.user_attrs["space"]["budget"],
        "best_trial": None
        if best is None
        else {
            "trial": best.number,
            "value": best.value,
            "params": best.params,
            "cost": dict(best.cost),
        },
        "seconds": opened.seconds(study),
        "choice": None
        if choice is None
        else {"answer": choice.title, "score": choice.score, "caveats": list(choice.caveats)},
    }


def study_status(opened: OpenStudy) -> dict[str, Any]:
    """Return where a study stands as JSON values, in a time that does not depend on its trials."""
    driver = opened.driver()
    return {
        "study": opened.folder.name,
        "place": opened.place,
        "driver": driver and asdict(driver),
        "parts": [_part(opened, study) for study in opened.studies],
    }
