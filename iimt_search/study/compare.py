"""Two studies side by side."""

from typing import Any

import optuna

from iimt_search.space import with_defaults
from iimt_search.space.growth import differences
from iimt_search.study.open import OpenStudy
from iimt_search.study.selection.choice import read_choice

# What makes objectives incomparable where it differs: they are of other models of other data.
_CONDITIONS = ("tasks", "objective", "train")


def _part(opened: OpenStudy, study: optuna.Study) -> dict[str, Any]:
    counts = {state.name.lower(): count for state, count in opened.count_trials(study).items()}
    best, choice = opened.best_trial(study), read_choice(study)
    return {
        "study": study.study_name,
        "objective": study.user_attrs["space"]["objective"],
        "trials": counts,
        "best_trial": None if best is None else {"trial": best.number, "value": best.value},
        "answer": None if choice is None else choice.title,
        "params": {} if choice is None else choice.params,
        "score": None if choice is None else choice.score,
        "scores": {} if choice is None else choice.scores,
        "caveats": [] if choice is None else list(choice.caveats),
    }


def incomparable(first: OpenStudy, second: OpenStudy) -> list[str]:
    """Return why the objectives of two studies cannot be compared; empty where they can."""
    one, other = with_defaults(first.space), with_defaults(second.space)
    reasons = [f"other {name}" for name in _CONDITIONS if one[name] != other[name]]
    data = [{k: v for s in o.studies for k, v in s.user_attrs["data"].items()} for o in (first, second)]
    shared = sorted(data[0].keys() & data[1].keys())
    return reasons + [f"other data of {task}" for task in shared if data[0][task] != data[1][task]]


def compare_studies(first: OpenStudy, second: OpenStudy) -> dict[str, Any]:
    """Return two studies side by side as JSON values; see ``api.compare``."""
    return {
        "studies": [
            {"study": opened.folder.name, "parts": [_part(opened, study) for study in opened.studies]}
            for opened in (first, second)
        ],
        "space": differences(with_defaults(first.space), with_defaults(second.space)),
        "incomparable": incomparable(first, second),
    }
