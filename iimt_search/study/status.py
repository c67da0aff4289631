"""Where a study stands."""

from dataclasses import asdict
from typing import Any

import optuna
from optuna.trial import TrialState

from iimt_search.study.open import OpenStudy
from iimt_search.study.selection.choice import read_choice

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
