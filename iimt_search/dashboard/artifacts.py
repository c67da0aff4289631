"""The files that the Optuna dashboard shows beside a study and its trials."""

import json
import uuid
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from iimt_search.study.folder import StudyFolder

_OF_STUDY = "artifacts:"
# Where the dashboard looks for artifacts of trials that have ended: Optuna itself adds none to those.
_OF_TRIAL = "dashboard:artifacts:{trial}:"


def artifact_store(folder: StudyFolder) -> FileSystemArtifactStore:
    """Return a study's store, made where absent."""
    path = folder.path / "artifacts"
    path.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(path)


def _known(study: optuna.Study, prefix: str, filename: str) -> str | None:
    """Return the id of the artifact of this name, None where there is none."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    metas = [json.loads(value) for key, value in attributes.items() if key.startswith(prefix)]
    # What was deleted in the dashboard has become null.
    return next((str(meta["artifact_id"]) for meta in metas if meta and meta["filename"] == filename), None)


def put_artifact(
    study: optuna.Study, store: FileSystemArtifactStore, png: Path, trial_id: int | None = None
) -> None:
    """Put a PNG file beside a study or a trial, in the place of an earlier one of its name.

    Args:
        study: the study.
        store: the study's.
        png: the file.
        trial_id: Optuna's id of the trial; None for the study.
    """
    prefix = _OF_STUDY if trial_id is None else _OF_TRIAL.format(trial=trial_id)
    known = _known(study, prefix, png.name)
    if known is None and trial_id is None:
        upload_artifact(artifact_store=store, file_path=str(png), study_or_trial=study)
        return
    if known is None:
        known = str(uuid.uuid4())
        meta = {"artifact_id": known, "filename": png.name, "mimetype": "image/png", "encoding": None}
        study._storage.set_study_system_attr(study._study_id, prefix + known, json.dumps(meta))
    with png.open("rb") as content:
        store.write(known, content)
